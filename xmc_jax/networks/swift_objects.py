"""Objects at places: what Swift's generator draws where a layout has them.

A thing looks the same wherever it stands, which convolutions over the image have to learn for every
place anew. Here each object has coordinates of its own, from -1 to 1 across it, and what is drawn
is a function of them and of the object's code: a coordinate network (CPPN; CIPS, Anokhin et al.,
arXiv 2011.13775), modulated by the code. The objects are laid over one another as in BlobGAN
(Epstein et al., arXiv 2205.02837): each pixel belongs to the objects or to the background by a
softmax. The sizes and the way these are put together are ours.
"""
from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers.conv import Dense
from xmc_jax.networks.base import Text
from xmc_jax.networks.swift_layers import Reader, scaled_unit
from xmc_jax.types import Array

FREQUENCIES = (1.5, 3.0, 6.0)     # of the sines and cosines of an object's coordinates, in radians
REACH = 2.0                       # coordinates beyond it are all the same
PRESENT = 8.0                     # log odds, against the background, in the middle of an object
FALL = 4.0                        # what they lose from the middle to the edge


def coverage(objects: Array, side: int) -> tuple[Array, Array, Array]:
  """Whose each pixel of a map is: shares [b, side, side, k], and coordinates y and x in the object.

  objects: a layout [b, k, 4]. The coordinates, [b, side, 1, k] and [b, 1, side, k], are 0 in the
  middle of an object and 1 at the end of its longer side.
  """
  kind, y, x, longer = jnp.moveaxis(objects, -1, 0)
  present = kind > 0
  half = jnp.where(present, longer / 2, 0.5)[:, None]
  pixel = ((jnp.arange(side) + 0.5) / side)[None, :, None]
  v, u = (((pixel - center[:, None]) / half) for center in (y, x))
  v, u = v[:, :, None], u[:, None]
  logits = PRESENT - FALL * (v ** 2 + u ** 2)
  logits = jnp.where(present[:, None, None], logits, -jnp.inf)
  logits = jnp.concatenate([logits, jnp.zeros_like(logits[..., :1])], -1)      # the background
  return jax.nn.softmax(logits, -1)[..., :-1], v, u


class ObjectCodes(nn.Module):
  """Codes [b, k, features] of a layout's objects: their kinds and sides, and the words they read.

  An object of kind 0 is no object; its code has no influence.
  """
  kinds: int
  features: int = 128

  @nn.compact
  def __call__(self, objects: Array, text: Text) -> Array:
    kind = nn.Embed(self.kinds + 1, 128, embedding_init=nn.initializers.normal(1.0), name='kind')
    x = kind(objects[..., 0].astype(jnp.int32)) + Dense(128, name='side')(objects[..., 3:])
    x = x[:, None]      # a map of one row
    x += Reader(out_init=nn.initializers.zeros, name='words')(x, text.words, text.mask)
    x = nn.silu(scaled_unit(Dense(256, name='hidden')(scaled_unit(x))))
    return Dense(self.features, name='out')(x)[:, 0]


class ObjectMap(nn.Module):
  """Lays objects over a map [b, s, s, c], by codes [b, k, f].

  What is drawn of an object covers the map to a part that is learned, as in GIRAFFE (Niemeyer and
  Geiger, arXiv 2011.12100), so that the background is seen around its outline.
  """
  depth: int = 3
  width: int = 96

  @nn.compact
  def __call__(self, x: Array, objects: Array, codes: Array) -> Array:
    shares, v, u = coverage(objects, x.shape[1])
    total = shares.sum(-1, keepdims=True)
    own = jnp.stack([(shares * v).sum(-1), (shares * u).sum(-1)], -1) / (total + 0.05)
    own = jnp.clip(own, -REACH, REACH)
    angles = jnp.concatenate([own * f for f in FREQUENCIES], -1)
    h = jnp.concatenate([own, jnp.sin(angles), jnp.cos(angles), total], -1)
    for i in range(self.depth):
      scale, shift = (jnp.einsum('bhwk,bkc->bhwc', shares, Dense(self.width, name=name)(codes))
                      for name in (f'scale_{i}', f'shift_{i}'))
      h = nn.silu(scaled_unit(Dense(self.width, name=f'layer_{i}')(h)) * (1 + scale) + shift)
    opacity = total * nn.sigmoid(Dense(1, name='opacity')(h))
    return x + opacity * (Dense(x.shape[-1], name='out')(h) - x)
