"""Batch normalisation in groups of rows, and its modulation by a condition."""
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers.conv import Dense
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.layers.resample import nearest_up
from xmc_jax.types import Array, UserError


def modulate(x: Array, gamma: Array, beta: Array) -> Array:
  """`x` [b, h, w, c] times 1 + gamma, plus beta: maps [b, k, k, c] that are enlarged to x's."""
  factor = x.shape[1] // gamma.shape[1]
  return x * (1 + nearest_up(gamma, factor)) + nearest_up(beta, factor)


def over_groups(m: Array, rows: int) -> Array:
  """Mean over each group's rows of `m` [b, 1, 1, c], given back to every row."""
  groups = m.reshape(-1, rows, *m.shape[1:])
  return jnp.broadcast_to(groups.mean(1, keepdims=True), groups.shape).reshape(m.shape)


def moments(x: Array, rows: int) -> tuple[Array, Array]:
  """Mean and variance of each row's group of `rows`, float32 [b, 1, 1, c]."""
  wide = x.astype(jnp.float32)
  mean = over_groups(wide.mean((1, 2), keepdims=True), rows)
  return mean, over_groups(jnp.square(wide - mean).mean((1, 2), keepdims=True), rows)


def normalise(x: Array, mean: Array, var: Array, epsilon: float) -> Array:
  return ((x.astype(jnp.float32) - mean) * jax.lax.rsqrt(var + epsilon)).astype(x.dtype)


def normalised_reference(x: Array, gamma: Array, beta: Array, rows: int, epsilon: float):
  """(normalised and modulated x, the means and variances of its rows' groups).

  Args: x [b, h, w, c]; gamma, beta [b, k, k, c], where k divides h and w.
  """
  mean, var = moments(x, rows)
  return modulate(normalise(x, mean, var, epsilon), gamma, beta), mean, var


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalised_folded(x: Array, gamma: Array, beta: Array, rows: int, epsilon: float):
  """The same; its gradient passes over the map a few times less, and keeps nothing but x.

  The sums over a group that the gradient in x needs follow from the gradients of gamma and beta,
  which are as small as the condition. No gradient flows through the means and variances returned.
  """
  return normalised_reference(x, gamma, beta, rows, epsilon)


def _keep(x, gamma, beta, rows, epsilon):
  out, mean, var = normalised_reference(x, gamma, beta, rows, epsilon)
  return (out, mean, var), (x, gamma, mean, jax.lax.rsqrt(var + epsilon))


def _pull(rows, epsilon, saved, cotangents):
  x, gamma, mean, scale = saved
  b, h, w, c = x.shape
  k = gamma.shape[1]
  out = cotangents[0].astype(jnp.float32)
  xhat = (x.astype(jnp.float32) - mean) * scale
  # Sums over the pixels that share a gamma and a beta.
  shrink = lambda m: m.reshape(b, k, h // k, k, w // k, c).sum((2, 4))
  # The barrier keeps the sums of sums that follow from being sums over whole maps again.
  for_gamma, for_beta = jax.lax.optimization_barrier((shrink(out * xhat), shrink(out)))
  factors = 1 + gamma.astype(jnp.float32)
  along, constant = (over_groups(jnp.sum(factors * m, (1, 2), keepdims=True), rows) / (h * w)
                     for m in (for_gamma, for_beta))
  for_x = scale * (out * nearest_up(factors, h // k) - constant - xhat * along)
  return for_x.astype(x.dtype), for_gamma.astype(gamma.dtype), for_beta.astype(gamma.dtype)


normalised_folded.defvjp(_keep, _pull)

NORMALISED = {'reference': normalised_reference, 'folded': normalised_folded}


class GroupedBatchNorm(nn.Module):
  """Batch normalisation of x [b, h, w, c], then `modulate`; statistics in float32.

  group_rows: rows that share statistics; None means all rows of the global batch, whatever the
  number of devices. The XMC-GAN code of 2021 normalised the rows of one device, 8 of them: that
  is `group_rows=8`. The running statistics average over groups.
  """
  group_rows: int | None = None
  impl: Impl = FAST
  decay: float = 0.9
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: Array, gamma: Array, beta: Array, train: bool) -> Array:
    """gamma, beta: [b, k, k, c], where k divides h and w."""
    channels = x.shape[-1]
    mean = self.variable('batch_stats', 'mean', jnp.zeros, (channels,))
    var = self.variable('batch_stats', 'var', jnp.ones, (channels,))
    if not train:
      mean, var = (kept.value[None, None, None] for kept in (mean, var))
      return modulate(normalise(x, mean, var, self.epsilon), gamma, beta)
    rows = x.shape[0] if self.group_rows is None else min(self.group_rows, x.shape[0])
    if x.shape[0] % rows:
      raise UserError(
        f'model.bn_group_size = {rows} does not divide the batch of {x.shape[0]} rows; '
        'choose a divisor, or None for global statistics'
      )
    out, row_mean, row_var = NORMALISED[self.impl.norm](x, gamma, beta, rows, self.epsilon)
    if not self.is_initializing():
      for variable, now in ((mean, row_mean), (var, row_var)):
        variable.value = self.decay * variable.value + (1 - self.decay) * now.mean((0, 1, 2))
    return out


class ConditionalNorm(nn.Module):
  """Normalised x [b, h, w, c], times 1 + gamma, plus beta, both linear in a condition [b, d]."""
  group_rows: int | None = None
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, condition: Array, train: bool) -> Array:
    gamma = Dense(x.shape[-1], dtype=self.dtype, name='gamma')(condition)[:, None, None]
    beta = Dense(x.shape[-1], dtype=self.dtype, name='beta')(condition)[:, None, None]
    return GroupedBatchNorm(self.group_rows, self.impl, name='norm')(x, gamma, beta, train)


class LocalConditionalNorm(nn.Module):
  """The same with a condition [b, k, k, d] of a smaller square map, nearest-upsampled to x.

  A 1x1 convolution commutes with nearest upsampling, so gamma and beta are computed at k x k and
  then enlarged; the plain form enlarges the condition first, as the paper's figure draws it.
  """
  group_rows: int | None = None
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, condition: Array, train: bool) -> Array:
    if self.impl.modulation == 'reference':
      condition = nearest_up(condition, x.shape[1] // condition.shape[1])
    gamma = Dense(x.shape[-1], dtype=self.dtype, name='gamma')(condition)
    beta = Dense(x.shape[-1], dtype=self.dtype, name='beta')(condition)
    return GroupedBatchNorm(self.group_rows, self.impl, name='norm')(x, gamma, beta, train)
