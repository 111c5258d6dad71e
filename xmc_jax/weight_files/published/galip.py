"""GALIP: `pre_coco.pth`, `state_epoch_N.pth`, with generator and both parts of the discriminator.

The generator's part holds the image transformer of its CLIP too, see `CLIP`.
"""
from __future__ import annotations

from xmc_jax.weight_files.published.df_gan import PLACES, UP_BLOCKS, fused
from xmc_jax.weight_files.published.rules import Arrays, Rule, count, length

CLIP = 'mapping.CLIP_ViT.'      # before OpenAI's names of what is below `visual.`

GENERATOR = (
  Rule('fc_code', 'start', maps=1),
  *fused('mapping.FBlocks', 'bridge'),
  *(Rule(f'mapping.FBlocks.{{n}}.conv{number}', f'bridge_{{n}}/conv_{where}')
    for number, where in PLACES),
  Rule('mapping.conv_fuse', 'bridge'),
  Rule('mapping.fc_prompt', 'prompts'),
  Rule('mapping.conv', 'join'),
  *UP_BLOCKS)
DISCRIMINATOR = (
  Rule('DBlocks.{n}.conv_r.0', 'read_{n}/conv_in'),
  Rule('DBlocks.{n}.conv_r.2', 'read_{n}/conv_out'),
  Rule('DBlocks.{n}.conv_s', 'read_{n}/shortcut'),
  Rule('DBlocks.{n}', 'read_{n}'),
  Rule('main.conv_r.0', 'read_out/conv_in'),
  Rule('main.conv_r.2', 'read_out/conv_out'),
  Rule('main.conv_s', 'read_out/shortcut'),
  Rule('main', 'read_out'),
  Rule('joint_conv.0', 'head/joint'),
  Rule('joint_conv.2', 'head/logit'))
SCALES = 1


def sizes(g: Arrays) -> dict[str, int]:
  """Keys of `config.model` that follow from the shapes of a generator."""
  return {'width': length(g, 'to_rgb.1.weight', 1), 'z_features': length(g, 'fc_code.weight', 1)}


def blocks(g: Arrays) -> int:
  """Blocks of a generator, one for each size of its maps."""
  return count(g, 'GBlocks.{n}.')


def d_sizes(d: Arrays) -> dict[str, int]:
  return {'width': length(d, 'joint_conv.0.weight', 0) // 2}


def text_features(g: Arrays) -> int:
  """Features of the sentences that a generator reads."""
  condition = length(g, 'GBlocks.0.fuse1.affine0.fc_gamma.linear1.weight', 1)
  return condition - length(g, 'fc_code.weight', 1)
