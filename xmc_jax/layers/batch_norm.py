"""Batch normalisation with a scale and a bias of its own."""
from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.layers.norm import GroupedBatchNorm
from xmc_jax.types import Array


def near_one(rng: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
  """Initializer: normal around 1 with deviation 0.02."""
  return 1 + 0.02 * jax.random.normal(rng, shape, dtype)


class BatchNorm(nn.Module):
  """Normalises x [b, h, w, c] or [b, c] in groups of rows, then scale and bias of each channel.

  group_rows: rows that share statistics, None: all (`GroupedBatchNorm`). Running variances are
  averages of the biased ones; torch's are of the unbiased, n / (n - 1) times as large.
  """
  group_rows: int | None = None
  impl: Impl = FAST

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    c = x.shape[-1]
    scale = self.param('scale', near_one, (c,))
    bias = self.param('bias', nn.initializers.zeros, (c,))
    flat = x.reshape(x.shape[0], *(x.shape[1:] if x.ndim == 4 else (1, 1, c)))
    each_row = lambda v: jnp.broadcast_to(v.astype(x.dtype), (x.shape[0], 1, 1, c))
    norm = GroupedBatchNorm(self.group_rows, self.impl, name='norm')
    return norm(flat, each_row(scale - 1), each_row(bias), train).reshape(x.shape)
