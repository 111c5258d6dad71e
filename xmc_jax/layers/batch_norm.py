"""Batch normalization with learned scale and bias."""
from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.layers.norm import GroupedBatchNorm
from xmc_jax.types import Array, Float


def near_one(rng: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
  """Initializer: normal with mean 1 and standard deviation 0.02."""
  return 1 + 0.02 * jax.random.normal(rng, shape, dtype)


class BatchNorm(nn.Module):
  """Batch normalization of maps or vectors, then scale and bias per channel.

  group_size: the number of examples that share statistics; None means all (`GroupedBatchNorm`).

  Running variances are averages of the biased estimates. Torch averages the unbiased ones, which
  are n / (n - 1) times as large.
  """
  group_size: int | None = None
  impl: Impl = FAST

  @nn.compact
  def __call__(self, x: Float[Array, 'b *hw c'], train: bool) -> Float[Array, 'b *hw c']:
    c = x.shape[-1]
    scale = self.param('scale', near_one, (c,))
    bias = self.param('bias', nn.initializers.zeros, (c,))
    flat = x.reshape(x.shape[0], *(x.shape[1:] if x.ndim == 4 else (1, 1, c)))
    per_example = lambda v: jnp.broadcast_to(v.astype(x.dtype), (x.shape[0], 1, 1, c))
    norm = GroupedBatchNorm(self.group_size, self.impl, name='norm')
    return norm(flat, per_example(scale - 1), per_example(bias), train).reshape(x.shape)
