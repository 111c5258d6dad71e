"""Frozen image networks for losses on image regions: a feature map and a pooled vector per image.

  backbone = image_backbones.find('squeezenet')
  regions, pool = backbone.feature_maps(backbone.load(), images)    # images [b, h, w, 3] in [0, 1]

Images of any size are resized inside, differentiably. BatchNorm statistics are fixed to the
published ones.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from xmc_jax.encoders import inception, registry, squeezenet, vgg
from xmc_jax.encoders.features import variables_spec
from xmc_jax.types import Array, Tree, UserError
from xmc_jax.utils.hashing import file_sha256


@dataclasses.dataclass(frozen=True)
class ImageBackbone:
  """A network without its classifier.

  name     of its weights, one of `registry_table.ENTRIES`
  module   class of the network; maps normalized images to a map [b, h, w, c] and pool [b, d]
  scaled   normalizes RGB in [0, 1] for the network
  side     pixels per side that images are resized to
  """

  name: str
  module: type[nn.Module]
  scaled: Callable[[Array], Array]
  side: int

  def feature_maps(self, variables: Tree, images: Array, *, corners: bool = True
                   ) -> tuple[Array, Array]:
    """Images float [b, h, w, 3] in [0, 1] to regions [b, n, c], row by row, and pool [b, d].

    corners: whether they are resized with aligned corners.
    """
    x = self.scaled(resize(images.astype(jnp.float32), self.side, corners=corners))
    regions, pool = self.module(parent=None).apply(variables, x)
    return regions.reshape(len(regions), -1, regions.shape[-1]), pool

  @functools.cached_property
  def spec(self) -> Tree:
    """Shapes of the variables; needs no file."""
    return variables_spec(self.module(parent=None), self.side)

  def shapes(self) -> tuple[tuple[int, int], int]:
    """(n, c) of the regions and d of the pool."""
    x = jax.ShapeDtypeStruct((1, self.side, self.side, 3), jnp.float32)
    regions, pool = jax.eval_shape(self.feature_maps, self.spec, x)
    return regions.shape[1:], pool.shape[1]

  def load(self) -> Tree:
    """The variables, float32; UserError as by `registry.load`."""
    params = registry.load(self.name).variables['params']
    return {'params': {name: params[name] for name in self.spec['params']}}

  def sha256(self) -> str:
    """The sha256 of the weight file; UserError if there is none."""
    path, _, source = registry.find(self.name)
    return file_sha256(source.weights(path))


BACKBONES = {backbone.name: backbone for backbone in (
  ImageBackbone('inception-torchvision', inception.InceptionBackbone, lambda x: 2 * x - 1,
                inception.SIDE),
  ImageBackbone('squeezenet', squeezenet.SqueezeNetBackbone, lambda x: squeezenet.scaled(255 * x),
                128),
  ImageBackbone('vgg16-backbone', vgg.Vgg16Backbone, vgg.standardized, 128))}


def find(name: str) -> ImageBackbone:
  """The backbone with this name, one of `BACKBONES`; UserError if there is none."""
  if name not in BACKBONES:
    raise UserError(f'there is no image backbone {name!r}; choose one of {", ".join(BACKBONES)}')
  return BACKBONES[name]


def resize(images: Array, side: int, *, corners: bool = True) -> Array:
  """Bilinear resize without antialiasing; `corners` is torch's `align_corners`.

  [b, h, w, c] to [b, side, side, c]. Computed as matrix products, because the gradient of a gather
  is a slow scatter.
  """
  if images.shape[1:3] == (side, side):
    return images
  rows, columns = (_weights(size, side, corners) for size in images.shape[1:3])
  return jnp.einsum('yh,bhwc,xw->byxc', rows, images, columns, precision='highest')


@functools.cache
def _weights(size: int, side: int, corners: bool) -> np.ndarray:
  """Interpolation weights [side, size]."""
  places = np.linspace(0, size - 1, side)
  if not corners:
    places = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
  return np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0).astype(np.float32)
