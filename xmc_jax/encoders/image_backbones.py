"""Frozen image networks for losses that look at places: a map of regions and a vector an image.

  backbone = backbones.find('squeezenet')
  regions, pool = backbone.feature_maps(backbone.load(), images)      # images [b, h, w, 3] in [0, 1]

Images of any size are resized inside, by a way that losses can be differentiated through. The
networks are as the authors of their weights left them: statistics of BatchNorm are fixed, and no
pass over images changes anything.
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
from xmc_jax.types import Array, Tree, UserError
from xmc_jax.weight_files import files


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A network without its classifier.

  name     of its weights, one of `weights_table.ENTRIES`
  module   of the network: images as `scaled` makes them to a map [b, h, w, c] and pool [b, d]
  scaled   from RGB in [0, 1] to what the network takes
  side     pixels of a side that images are resized to
  """

  name: str
  module: type[nn.Module]
  scaled: Callable[[Array], Array]
  side: int

  def feature_maps(self, variables: Tree, images: Array) -> tuple[Array, Array]:
    """images float [b, h, w, 3] in [0, 1] to regions [b, n, c], row by row, and pool [b, d]."""
    x = self.scaled(resize(images.astype(jnp.float32), self.side))
    found, pool = self.module(parent=None).apply(variables, x)
    return found.reshape(len(found), -1, found.shape[-1]), pool

  @functools.cached_property
  def spec(self) -> Tree:
    """Shapes of the variables, known without the file."""
    x = jax.ShapeDtypeStruct((1, self.side, self.side, 3), jnp.float32)
    return jax.eval_shape(self.module(parent=None).init, jax.random.key(0), x)

  def shapes(self) -> tuple[tuple[int, int], int]:
    """(n, c) of the regions and d of the pool."""
    x = jax.ShapeDtypeStruct((1, self.side, self.side, 3), jnp.float32)
    regions, pool = jax.eval_shape(self.feature_maps, self.spec, x)
    return regions.shape[1:], pool.shape[1]

  def load(self) -> Tree:
    """Its variables, float32; UserError as of `weights.load`."""
    params = registry.load(self.name).variables['params']
    return {'params': {name: params[name] for name in self.spec['params']}}

  def sha256(self) -> str:
    """The hash of the file of its weights; UserError if there is none."""
    path, _, source = registry.find(self.name)
    return files.sha256(source.weights(path))


BACKBONES = {backbone.name: backbone for backbone in (
  Backbone('inception-torchvision', inception.InceptionBackbone, lambda x: 2 * x - 1, inception.SIDE),
  Backbone('squeezenet', squeezenet.SqueezeNetBackbone, lambda x: squeezenet.scaled(255 * x), 128),
  Backbone('vgg16-backbone', vgg.Vgg16Maps, vgg.standardised, 128))}


def find(name: str) -> Backbone:
  """A backbone by its name, one of `TRUNKS`; UserError for another name."""
  if name not in BACKBONES:
    raise UserError(f'There is no image backbone {name!r}; choose one of {", ".join(BACKBONES)}.')
  return BACKBONES[name]


def resize(images: Array, side: int) -> Array:
  """Bilinear, corner pixels on corner pixels (torch's `align_corners=True`), without antialias.

  [b, h, w, c] to [b, side, side, c]. Products of matrices: cheap backwards too, where gathered
  pixels would be scattered.
  """
  if images.shape[1:3] == (side, side):
    return images
  rows, columns = (_between(size, side) for size in images.shape[1:3])
  return jnp.einsum('yh,bhwc,xw->byxc', rows, images, columns, precision='highest')


@functools.cache
def _between(size: int, side: int) -> np.ndarray:
  """[side, size]: how much each pixel gives to each place."""
  places = np.linspace(0, size - 1, side)
  return np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0).astype(np.float32)
