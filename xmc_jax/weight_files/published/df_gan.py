"""DF-GAN of CVPR 2022: `state_epoch_N.pth`, with generator and both parts of the discriminator.

The code of 2020 had another generator, `GENERATOR_OF_2020`, which is known and not read.
"""
from __future__ import annotations

from xmc_jax.weight_files.published.rules import Arrays, Rule, count, length

PLACES = (('1', 'in'), ('2', 'out'))


def fused(theirs: str, ours: str) -> tuple[Rule, ...]:
  """Rules of a deep fusion block: twice two networks for scales and for shifts."""
  return tuple(
    Rule(f'{theirs}.{{n}}.fuse{number}.affine{{i}}.fc_{what}.linear{layer}',
         f'{ours}_{{n}}/fuse_{where}/{what}_{{i}}{end}')
    for number, where in PLACES for what in ('gamma', 'beta')
    for layer, end in ((1, '_hidden'), (2, '')))


UP_BLOCKS = (
  *fused('GBlocks', 'block'),
  *(Rule(f'GBlocks.{{n}}.c{number}', f'block_{{n}}/conv_{where}') for number, where in PLACES),
  Rule('GBlocks.{n}.c_sc', 'block_{n}/shortcut'),
  Rule('to_rgb.1', 'pixels'))
GENERATOR = (Rule('fc', 'start', maps=1), *UP_BLOCKS)
DISCRIMINATOR = (
  Rule('conv_img', 'start'),
  Rule('DBlocks.{n}.conv_r.0', 'block_{n}/conv_down'),
  Rule('DBlocks.{n}.conv_r.2', 'block_{n}/conv'),
  Rule('DBlocks.{n}.conv_s', 'block_{n}/shortcut'),
  Rule('DBlocks.{n}', 'block_{n}'),
  Rule('joint_conv.0', 'joint'),
  Rule('joint_conv.2', 'logit'))
SCALES = 1
GENERATOR_OF_2020 = tuple(Rule(theirs, '') for theirs in (      # nothing of ours
  'fc', 'block{n}', 'block{n}.affine{i}.fc_gamma.linear{j}', 'block{n}.affine{i}.fc_beta.linear{j}',
  'block{n}.c1', 'block{n}.c2', 'block{n}.c_sc', 'conv_img.1'))


def sizes(g: Arrays) -> dict[str, int]:
  """Keys of `config.model` that follow from the shapes of a generator."""
  return {'width': length(g, 'to_rgb.1.weight', 1), 'z_features': length(g, 'fc.weight', 1),
          'size': 4 << count(g, 'GBlocks.{n}.')}


def d_sizes(d: Arrays) -> dict[str, int]:
  return {'width': length(d, 'conv_img.weight', 0), 'size': 4 << count(d, 'DBlocks.{n}.')}


def text_features(g: Arrays) -> int:
  """Features of the sentences that a generator reads."""
  condition = length(g, 'GBlocks.0.fuse1.affine0.fc_gamma.linear1.weight', 1)
  return condition - length(g, 'fc.weight', 1)
