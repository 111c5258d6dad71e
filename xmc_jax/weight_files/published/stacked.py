"""What AttnGAN's published files and DM-GAN's have in common: the stages of the generator."""
from __future__ import annotations

from xmc_jax.weight_files.published.rules import Arrays, Rule, count, length

STAGES = (
  Rule('ca_net.fc', 'condition/moments'),
  Rule('h_net1.fc.0', 'start', maps=2),
  Rule('h_net1.fc.1', 'norm_start', maps=2),
  Rule('h_net1.upsample{n}.1', 'up_0_{n}/conv'),
  Rule('h_net1.upsample{n}.2', 'up_0_{n}/norm'),
  Rule('h_net{n+1}.residual.{i}.block.0', 'residual_{n}_{i}/conv_in'),
  Rule('h_net{n+1}.residual.{i}.block.1', 'residual_{n}_{i}/norm_in'),
  Rule('h_net{n+1}.residual.{i}.block.3', 'residual_{n}_{i}/conv_out'),
  Rule('h_net{n+1}.residual.{i}.block.4', 'residual_{n}_{i}/norm_out'),
  Rule('h_net{n+1}.upsample.1', 'up_{n}/conv'),
  Rule('h_net{n+1}.upsample.2', 'up_{n}/norm'),
  Rule('img_net{n+1}.img.0', 'pixels_{n}'))
SCALES = 3


def sizes(g: Arrays) -> dict[str, int]:
  """Keys of `config.model` that follow from the shapes of a generator."""
  condition = length(g, 'ca_net.fc.weight', 0) // 4
  return {'width': length(g, 'img_net1.img.0.weight', 1),
          'residuals': count(g, 'h_net2.residual.{n}.'),
          'condition_features': condition,
          'z_features': length(g, 'h_net1.fc.0.weight', 1) - condition,
          'size': 16 << count(g, 'h_net1.upsample{n}.')}


def text_features(g: Arrays) -> int:
  """Features of the sentences that a generator reads."""
  return length(g, 'ca_net.fc.weight', 1)
