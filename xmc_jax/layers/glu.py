"""Blocks with gated linear units, from which the stacked generators are built."""
from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers.batch_norm import BatchNorm
from xmc_jax.layers.conv import ORTHOGONAL, Conv
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.types import Array, Float


def glu(x: Float[Array, '*b c']) -> Float[Array, '*b c//2']:
  """The first half of the channels, times the sigmoid of the second half."""
  value, gate = jnp.split(x, 2, -1)
  return value * jax.nn.sigmoid(gate)


class GluUp(nn.Module):
  """Upsampling block with a gate."""
  features: int
  bn_group_size: int | None = None
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b 2*h 2*w d']:
    x = Conv(2 * self.features, 'up', ORTHOGONAL, impl=self.impl, dtype=self.dtype,
             name='conv')(x)
    return glu(BatchNorm(self.bn_group_size, self.impl, name='norm')(x, train))


class GluResidual(nn.Module):
  """Gated residual block that keeps size and channels; there is no activation after the sum."""
  bn_group_size: int | None = None
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b h w c']:
    conv = lambda features, name: Conv(features, 'same', ORTHOGONAL, impl=self.impl,
                                       dtype=self.dtype, name=name)
    norm = lambda name: BatchNorm(self.bn_group_size, self.impl, name=name)
    h = glu(norm('norm_in')(conv(2 * x.shape[-1], 'conv_in')(x), train))
    return x + norm('norm_out')(conv(x.shape[-1], 'conv_out')(h), train)
