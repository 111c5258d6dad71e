"""Convolution and dense layers that start as torch's do: all uniform in +-1 / sqrt(fan in)."""
from __future__ import annotations

import functools

import flax.linen as nn
import jax.numpy as jnp

from xmc_jax.layers import orthogonal
from xmc_jax.layers.orthogonal import fan_in_uniform
from xmc_jax.types import Array

UNIFORM = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')

Conv = functools.partial(orthogonal.Conv, kernel_init=UNIFORM)


def zero_dense(features: int, start: float = 0.0, **options) -> nn.Dense:
  """A linear map that begins as the constant `start`."""
  return nn.Dense(features, kernel_init=nn.initializers.zeros,
                  bias_init=nn.initializers.constant(start), **options)


class Dense(nn.Module):
  """A linear map of the last axis, so of a map [b, h, w, c] a 1x1 convolution."""
  features: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    kernel = self.param('kernel', UNIFORM, (x.shape[-1], self.features))
    bias = self.param('bias', fan_in_uniform(x.shape[-1]), (self.features,))
    bias = jnp.expand_dims(bias.astype(self.dtype), range(x.ndim - 1))
    return x.astype(self.dtype) @ kernel.astype(self.dtype) + bias
