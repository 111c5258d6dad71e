"""Blocks with gated linear units, from which the stacked generators are built."""
from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers.batch_norm import BatchNorm
from xmc_jax.layers.conv import ORTHOGONAL, Conv
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.types import Array


def glu(x: Array) -> Array:
  """The first half of the channels, times the sigmoid of the second half."""
  value, gate = jnp.split(x, 2, -1)
  return value * jax.nn.sigmoid(gate)


class GluUp(nn.Module):
  """Upsampling block with a gate: [b, h, w, c] -> [b, 2h, 2w, features]."""
  features: int
  bn_group_size: int | None = None
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    x = Conv(2 * self.features, 'up', ORTHOGONAL, impl=self.impl, dtype=self.dtype,
             name='conv')(x)
    return glu(BatchNorm(self.bn_group_size, self.impl, name='norm')(x, train))


class GluResidual(nn.Module):
  """Gated residual block that keeps size and channels; there is no activation after the sum."""
  bn_group_size: int | None = None
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    conv = lambda features, name: Conv(features, 'same', ORTHOGONAL, impl=self.impl,
                                       dtype=self.dtype, name=name)
    norm = lambda name: BatchNorm(self.bn_group_size, self.impl, name=name)
    h = glu(norm('norm_in')(conv(2 * x.shape[-1], 'conv_in')(x), train))
    return x + norm('norm_out')(conv(x.shape[-1], 'conv_out')(h), train)
