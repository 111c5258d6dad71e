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
from xmc_jax.layers.impl import FAST, Impl
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


@jax.custom_vjp
def conv_down_parity(x: Array, kernel: Array) -> Array:
  """The same; its gradient in `x` is four 2x2 convolutions, one for each parity of its pixels.

  On CPUs that is three to four times as fast as a convolution of a map spread with zeros.
  """
  return conv_down(x, kernel)


def _keep(x, kernel):
  return conv_down(x, kernel), (x, kernel)


def _pull(saved, out):
  x, kernel = saved
  # Output o reads pixel 2o - 1 + t with tap t: pixel 2i is read with tap 3 by output i - 1 and with
  # tap 1 by i; pixel 2i + 1 with tap 2 by i and with tap 0 by i + 1.
  taps, pads = (jnp.array([3, 1]), jnp.array([2, 0])), ((1, 0), (0, 1))
  for_x = [[resample.conv(out, kernel[rows][:, columns].swapaxes(2, 3), padding=(above, left))
            for columns, left in zip(taps, pads)] for rows, above in zip(taps, pads)]
  for_x = jnp.stack([jnp.stack(row, 3) for row in for_x], 2)          # [b, h / 2, 2, w / 2, 2, c]
  return for_x.reshape(x.shape), jax.vjp(lambda k: conv_down(x, k), kernel)[1](out)[0]


conv_down_parity.defvjp(_keep, _pull)

DOWN = {'reference': conv_down, 'strided': conv_down, 'parity': conv_down_parity}  # as `Impl.pool`


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
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32
  kernel_init: Callable[..., Array] = ORTHOGONAL

  @nn.compact
  def __call__(self, x):
    run, side = {'same': (resample.conv, 3), 'up': (resample.AFTER_UP[self.impl.up], 3),
                 'down': (DOWN[self.impl.pool], 4), 'whole': (conv_whole, 4)}[self.resize]
    shape = (side, side, x.shape[-1], self.features)
    x = run(x.astype(self.dtype), self.param('kernel', self.kernel_init, shape))
    if not self.bias:
      return x
    start = fan_in_uniform(np.prod(shape[:-1]))
    bias = self.param('bias', start, (self.features,)).astype(self.dtype)
    return x + bias[None, None, None]
