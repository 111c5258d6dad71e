"""Convolution and dense layers with the initial values that a method asks for."""
from __future__ import annotations

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers import resample
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.types import Array, Float

Initializer = Callable[..., Array]

# Initial kernels. ORTHOGONAL takes a kernel as the matrix [all other axes, outputs]; FAN_IN is
# torch's default, uniform in +-1 / sqrt(fan in).
GLOROT = nn.initializers.glorot_normal()
ORTHOGONAL = nn.initializers.orthogonal()
FAN_IN = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')

leaky = functools.partial(nn.leaky_relu, negative_slope=0.2)


def fan_in_bias(fan_in: int) -> Initializer:
  """Initial biases as in torch: uniform in +-1 / sqrt(fan_in)."""
  bound = float(fan_in) ** -0.5
  return lambda rng, shape, dtype=jnp.float32: jax.random.uniform(rng, shape, dtype, -bound, bound)


def zero_bias(fan_in: int) -> Initializer:
  """Initial biases of 0."""
  del fan_in
  return nn.initializers.zeros


class Conv(nn.Module):
  """Convolution [b, h, w, c] -> [b, h', w', features] with zero padding, in `dtype`.

  resize: the side of the kernel and of the result.
    'same'   3x3, h' = h
    'up'     3x3 after nearest-neighbor doubling, h' = 2 h
    'pool'   3x3 before 2x2 average pooling, h' = h / 2
    'down'   4x4 with stride two, h' = h / 2
    'whole'  4x4 without padding, of a 4x4 map, h' = 1
  bias_init: from the fan-in to an initializer; None for a convolution without biases.
  """
  features: int
  resize: str = 'same'
  kernel_init: Initializer = GLOROT
  bias_init: Callable[[int], Initializer] | None = None
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b i j d']:
    run, side = {'same': (resample.conv, 3), 'up': (resample.AFTER_UP[self.impl.up], 3),
                 'pool': (resample.BEFORE_POOL[self.impl.pool], 3),
                 'down': (resample.DOWN[self.impl.pool], 4),
                 'whole': (resample.conv_whole, 4)}[self.resize]
    shape = (side, side, x.shape[-1], self.features)
    x = run(x.astype(self.dtype), self.param('kernel', self.kernel_init, shape))
    return _add_bias(self, x, math.prod(shape[:-1]))


class Dense(nn.Module):
  """Linear map of the last axis in `dtype`, so a 1x1 convolution of a map [b, h, w, c].

  bias_init: from the fan-in to an initializer; None for a map without biases.
  """
  features: int
  kernel_init: Initializer = GLOROT
  bias_init: Callable[[int], Initializer] | None = zero_bias
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, '*b c']) -> Float[Array, '*b d']:
    fan_in = x.shape[-1]
    kernel = self.param('kernel', self.kernel_init, (fan_in, self.features))
    return _add_bias(self, x.astype(self.dtype) @ kernel.astype(self.dtype), fan_in)


def _add_bias(layer: Conv | Dense, x: Array, fan_in: int) -> Array:
  if layer.bias_init is None:
    return x
  bias = layer.param('bias', layer.bias_init(fan_in), (layer.features,))
  return x + jnp.expand_dims(bias.astype(layer.dtype), range(x.ndim - 1))


def constant_dense(features: int, start: float = 0.0, **options) -> Dense:
  """A dense layer that begins as the constant `start`."""
  return Dense(features, nn.initializers.zeros,
               lambda fan_in: nn.initializers.constant(start), **options)
