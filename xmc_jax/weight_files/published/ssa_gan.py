"""SSA-GAN: `netG_N.pth` and `netD_N.pth`."""
from __future__ import annotations

from xmc_jax.weight_files.published.rules import Arrays, Rule, count, length

# Theirs of one block, and ours: two modulated normalizations with a network for each scale and
# shift.
_MODULATION = tuple(
  Rule(f'block{{n}}.affine{number}.fc_{what}.linear{layer}',
       f'block_{{n}}/norm_{where}/{what}{end}')
  for number, where in ((0, 'in'), (2, 'out')) for what in ('gamma', 'beta')
  for layer, end in ((1, '_hidden'), (2, '')))
GENERATOR = (
  Rule('fc', 'start', maps=1),
  Rule('conv_mask.0', 'mask_0/conv'),
  Rule('conv_mask.1', 'mask_0/norm'),
  Rule('conv_mask.3', 'mask_0/logit'),
  Rule('block{n}.conv_mask.0', 'mask_{n+1}/conv'),
  Rule('block{n}.conv_mask.1', 'mask_{n+1}/norm'),
  Rule('block{n}.conv_mask.3', 'mask_{n+1}/logit'),
  *_MODULATION,
  Rule('block{n}.affine0.batch_norm2d', 'block_{n}/norm_in'),
  Rule('block{n}.affine2.batch_norm2d', 'block_{n}/norm_out'),
  Rule('block{n}.c1', 'block_{n}/conv_in'),
  Rule('block{n}.c2', 'block_{n}/conv_out'),
  Rule('block{n}.c_sc', 'block_{n}/shortcut'),
  Rule('block{n}', 'block_{n}'),
  Rule('conv_img.0', 'norm'),
  Rule('conv_img.2', 'pixels'))
DISCRIMINATOR = (
  Rule('conv_img', 'start'),
  Rule('block{n}.conv_r.0', 'block_{n}/conv_down'),
  Rule('block{n}.conv_r.2', 'block_{n}/conv'),
  Rule('block{n}.conv_s', 'block_{n}/shortcut'),
  Rule('block{n}', 'block_{n}'),
  Rule('COND_DNET.joint_conv.0', 'joint'),
  Rule('COND_DNET.joint_conv.2', 'logit'))
SCALES = 1


def sizes(g: Arrays) -> dict[str, int]:
  """Keys of `config.model` that follow from the shapes of a generator."""
  return {'width': length(g, 'conv_img.0.weight', 0), 'z_features': length(g, 'fc.weight', 1),
          'size': 2 << count(g, 'block{n}.')}


def d_sizes(d: Arrays) -> dict[str, int]:
  return {'width': length(d, 'conv_img.weight', 0), 'size': 4 << count(d, 'block{n}.')}


def text_features(g: Arrays) -> int:
  """Features of the sentences that a generator reads."""
  return length(g, 'block0.affine0.fc_gamma.linear1.weight', 1)
