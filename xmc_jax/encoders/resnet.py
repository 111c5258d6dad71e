"""The frozen ResNet-50, trained on ImageNet; XMC-GAN's released code uses one in its image loss.

He et al., "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), in torchvision's
version 1.5, where the stride of a block is in its 3 x 3 convolution.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from xmc_jax.encoders.features import Features, variables_spec
from xmc_jax.encoders.vgg import scaled as scaled
from xmc_jax.types import Array, Tree
from xmc_jax.weight_files.convert import Path, fill
from xmc_jax.weight_files.torch_files import LEAVES

SIDE = 224  # pixels per side in training
BLOCKS = (3, 4, 6, 3)  # with 256, 512, 1024 and 2048 channels


class LayerFactory(NamedTuple):
  """Creates the layers of a ResNet."""

  dtype: jnp.dtype
  precision: jax.lax.Precision | None

  def conv(self, name: str, width: int, side: int, stride: int = 1) -> nn.Conv:
    return nn.Conv(width, (side, side), (stride, stride), padding=side // 2, use_bias=False,
                   dtype=self.dtype, precision=self.precision, name=name)

  def norm(self, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=True, epsilon=1e-5, dtype=self.dtype, name=name)


class ResNet50(nn.Module):
  """Maps images to the spatial mean of the last block's output, and logits of ImageNet's classes.

  `precision` of float32 products: the highest for evaluation, None (the default) in losses.
  """

  classes: int = 1000
  dtype: jnp.dtype = jnp.float32
  precision: jax.lax.Precision | None = jax.lax.Precision.HIGHEST

  @nn.compact
  def __call__(self, x: Array) -> Features:
    """x [b, h, w, 3] normalized by `scaled`, h and w at least 32, to pool [b, 2048].

    Nothing is resized here; the weights were trained at 224 px.
    """
    layers = LayerFactory(self.dtype, self.precision)
    x = nn.relu(layers.norm('bn1')(layers.conv('conv1', 64, 7, 2)(x)))
    x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    for i, blocks in enumerate(BLOCKS):
      for j in range(blocks):
        stride = 2 if i and not j else 1
        x = Bottleneck(64 * 2**i, stride, layers, name=f'layer{i + 1}_{j}')(x)
    pool = x.mean(axis=(1, 2), dtype=jnp.float32)
    return Features(pool, nn.Dense(self.classes, precision=self.precision, name='fc')(pool))


class Bottleneck(nn.Module):
  """1 x 1, 3 x 3 and 1 x 1 convolution with a residual sum; the output has 4 `width` channels."""

  width: int
  stride: int
  layers: LayerFactory

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """x [b, h, w, c] to [b, h / stride, w / stride, 4 width]."""
    conv, norm = self.layers.conv, self.layers.norm
    y = nn.relu(norm('bn1')(conv('conv1', self.width, 1)(x)))
    y = nn.relu(norm('bn2')(conv('conv2', self.width, 3, self.stride)(y)))
    y = norm('bn3')(conv('conv3', 4 * self.width, 1)(y))
    if x.shape != y.shape:
      x = norm('downsample_1')(conv('downsample_0', 4 * self.width, 1, self.stride)(x))
    return nn.relu(x + y)


def from_torch(arrays: Mapping[str, np.ndarray], module: ResNet50) -> Tree:
  """The variables of `module`, from the state dict of torchvision's `resnet50`.

  Raises:
    UserError: a tensor is missing or has another shape.
  """

  def names_of(path: Path) -> list[str]:
    _, *modules, leaf = path
    return [f"{'.'.join(modules).replace('_', '.')}.{LEAVES[leaf]}"]

  return fill(variables_spec(module, SIDE), arrays, names_of)
