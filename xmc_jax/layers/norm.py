"""Batch normalisation in groups of rows, and its modulation by a condition."""
import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers.conv import Dense
from xmc_jax.layers.resample import nearest_up
from xmc_jax.types import Array, UserError


class GroupedBatchNorm(nn.Module):
  """Batch normalisation of [b, h, w, c] without scale and bias; statistics in float32.

  group_rows: rows that share statistics; None means all rows of the global batch, whatever the
  number of devices. The XMC-GAN code of 2021 normalised the rows of one device, 8 of them: that
  is `group_rows=8`. The running statistics average over groups.
  """
  group_rows: int | None = None
  decay: float = 0.9
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    channels = x.shape[-1]
    mean = self.variable('batch_stats', 'mean', jnp.zeros, (channels,))
    var = self.variable('batch_stats', 'var', jnp.ones, (channels,))
    if not train:
      return self._normalise(x, mean.value, var.value)
    rows = x.shape[0] if self.group_rows is None else min(self.group_rows, x.shape[0])
    if x.shape[0] % rows:
      raise UserError(f'model.norm_rows = {rows} does not divide the batch of {x.shape[0]} rows; '
                      'choose a divisor, or None for global statistics')
    groups = x.reshape(-1, rows, *x.shape[1:])
    wide = groups.astype(jnp.float32)
    axes = tuple(range(1, x.ndim))
    group_mean = wide.mean(axes, keepdims=True)
    group_var = jnp.square(wide - group_mean).mean(axes, keepdims=True)
    if not self.is_initializing():
      for variable, now in ((mean, group_mean), (var, group_var)):
        now = now.reshape(-1, channels).mean(0)
        variable.value = self.decay * variable.value + (1 - self.decay) * now
    return self._normalise(groups, group_mean, group_var).reshape(x.shape)

  def _normalise(self, x, mean, var):
    scale = jax.lax.rsqrt(var + self.epsilon)
    return ((x.astype(jnp.float32) - mean) * scale).astype(x.dtype)


class ConditionalNorm(nn.Module):
  """Normalised x [b, h, w, c], times 1 + gamma, plus beta, both linear in a condition [b, d]."""
  group_rows: int | None = None
  fast: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, condition: Array, train: bool) -> Array:
    x = GroupedBatchNorm(self.group_rows, name='norm')(x, train)
    gamma = Dense(x.shape[-1], dtype=self.dtype, name='gamma')(condition)[:, None, None]
    beta = Dense(x.shape[-1], dtype=self.dtype, name='beta')(condition)[:, None, None]
    return x * (1 + gamma) + beta


class LocalConditionalNorm(nn.Module):
  """The same with a condition [b, k, k, d] of a smaller square map, nearest-upsampled to x.

  A 1x1 convolution commutes with nearest upsampling, so gamma and beta are computed at k x k and
  then enlarged; fast=False enlarges the condition first, as the paper's figure draws it.
  """
  group_rows: int | None = None
  fast: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, condition: Array, train: bool) -> Array:
    x = GroupedBatchNorm(self.group_rows, name='norm')(x, train)
    factor = x.shape[1] // condition.shape[1]
    gamma = Dense(x.shape[-1], dtype=self.dtype, name='gamma')
    beta = Dense(x.shape[-1], dtype=self.dtype, name='beta')
    if self.fast:
      return x * (1 + nearest_up(gamma(condition), factor)) + nearest_up(beta(condition), factor)
    condition = nearest_up(condition, factor)
    return x * (1 + gamma(condition)) + beta(condition)
