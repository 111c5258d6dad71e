"""Convolution and dense layers that start with orthogonal kernels and torch's usual biases.

A kernel is taken as the matrix [all other axes, outputs], as AttnGAN's and DM-GAN's code does.
"""
from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from xmc_jax.layers import resample
from xmc_jax.layers.forms import FAST, Forms
from xmc_jax.types import Array

ORTHOGONAL = nn.initializers.orthogonal()

# A linear map of the last axis, so of a map [b, h, w, c] a 1x1 convolution.
Dense = functools.partial(nn.Dense, kernel_init=ORTHOGONAL)


def fan_in_uniform(fan_in: int):
  """Initializer of biases: uniform in +-1 / sqrt(fan_in), torch's for convolutions."""
  bound = float(fan_in) ** -0.5
  return lambda rng, shape, dtype=jnp.float32: jax.random.uniform(rng, shape, dtype, -bound, bound)


def conv_down(x: Array, kernel: Array) -> Array:
  """4x4 convolution of stride two, [b, h, w, c] -> [b, h / 2, w / 2, d]; one pixel of padding."""
  return resample.conv(x, kernel, stride=2, padding=((1, 1), (1, 1)))


def conv_whole(x: Array, kernel: Array) -> Array:
  """A kernel as large as the map: [b, h, w, c] -> [b, 1, 1, d]."""
  return jnp.einsum('bhwc,hwcd->bd', x, kernel.astype(x.dtype))[:, None, None]


class Conv(nn.Module):
  """Convolution [b, h, w, c] -> [b, h', w', features].

  resize: 'same', 3x3; 'up', 3x3 after nearest-neighbour doubling; 'down', 4x4 of stride two;
    'whole', 4x4 of a 4x4 map.
  """
  features: int
  resize: str = 'same'
  bias: bool = False
  forms: Forms = FAST
  dtype: jnp.dtype = jnp.float32
  kernel_init: Callable[..., Array] = ORTHOGONAL

  @nn.compact
  def __call__(self, x):
    run, side = {'same': (resample.conv, 3), 'up': (resample.AFTER_UP[self.forms.up], 3),
                 'down': (conv_down, 4), 'whole': (conv_whole, 4)}[self.resize]
    shape = (side, side, x.shape[-1], self.features)
    x = run(x.astype(self.dtype), self.param('kernel', self.kernel_init, shape))
    if not self.bias:
      return x
    start = fan_in_uniform(np.prod(shape[:-1]))
    return x + self.param('bias', start, (self.features,)).astype(self.dtype)
