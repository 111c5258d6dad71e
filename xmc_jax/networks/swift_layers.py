"""Layers that the parts of Swift's generator share; see `swift_generator.py`."""
from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from xmc_jax.layers.attention import attend
from xmc_jax.layers.conv import GLOROT, Dense
from xmc_jax.types import Array
from xmc_jax.utils.arrays import unit


def scaled_unit(x: Array) -> Array:
  """Vectors of a root mean square of one."""
  return unit(x) * jnp.sqrt(jnp.float32(x.shape[-1]))


class Modulated(nn.Module):
  """SiLU of a map [b, h, w, c], normalized in each place, scaled and shifted by a condition [b, d].

  There are no statistics over examples, so nothing has to be kept for sampling.
  """

  @nn.compact
  def __call__(self, x: Array, condition: Array) -> Array:
    scale, shift = jnp.split(Dense(2 * x.shape[-1], name='film')(condition)[:, None, None], 2, -1)
    return nn.silu(scaled_unit(x) * (1 + scale) + shift)


class Reader(nn.Module):
  """Attention of every place of a map [b, h, w, c] over a sequence [b, n, e] -> [b, h, w, c]."""
  heads: int = 4
  features: int = 32
  out_init: nn.initializers.Initializer = GLOROT

  @nn.compact
  def __call__(self, x: Array, sequence: Array, mask: Array) -> Array:
    """mask: [b, n]; what is False has no influence."""
    b, h, w, c = x.shape

    def project(y, name):
      """[b, n, e] -> [b * heads, n, features]"""
      y = Dense(self.heads * self.features, name=name)(y)
      y = y.reshape(b, -1, self.heads, self.features).swapaxes(1, 2)
      return y.reshape(b * self.heads, -1, self.features)

    sequence = scaled_unit(sequence)
    queries = project(scaled_unit(x), 'query') / jnp.sqrt(jnp.float32(self.features))
    read = attend(queries, project(sequence, 'key'), project(sequence, 'value'),
                  jnp.repeat(mask, self.heads, 0))
    read = read.reshape(b, self.heads, h * w, -1).swapaxes(1, 2).reshape(b, h, w, -1)
    return Dense(c, kernel_init=self.out_init, name='out')(read)
