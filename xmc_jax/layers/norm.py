"""Batch normalization within groups of examples, and its modulation by a condition."""
from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers.conv import Dense
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.layers.resample import nearest_up
from xmc_jax.types import Array, Float, UserError


def modulate(x: Float[Array, 'b h w c'], gamma: Float[Array, 'b k k c'],
             beta: Float[Array, 'b k k c']) -> Float[Array, 'b h w c']:
  """`x` times 1 + gamma, plus beta, both upsampled to the size of x."""
  factor = x.shape[1] // gamma.shape[1]
  return x * (1 + nearest_up(gamma, factor)) + nearest_up(beta, factor)


def over_groups(m: Float[Array, 'b 1 1 c'], group_size: int) -> Float[Array, 'b 1 1 c']:
  """Mean over each group of examples, repeated for every example."""
  groups = m.reshape(-1, group_size, *m.shape[1:])
  return jnp.broadcast_to(groups.mean(1, keepdims=True), groups.shape).reshape(m.shape)


def moments(x: Float[Array, 'b h w c'], group_size: int
            ) -> tuple[Float[Array, 'b 1 1 c'], Float[Array, 'b 1 1 c']]:
  """Mean and variance of the group of each example, float32."""
  wide = x.astype(jnp.float32)
  mean = over_groups(wide.mean((1, 2), keepdims=True), group_size)
  return mean, over_groups(jnp.square(wide - mean).mean((1, 2), keepdims=True), group_size)


def normalize(x: Float[Array, 'b h w c'], mean: Float[Array, '#b 1 1 c'],
              var: Float[Array, '#b 1 1 c'], epsilon: float) -> Float[Array, 'b h w c']:
  return ((x.astype(jnp.float32) - mean) * jax.lax.rsqrt(var + epsilon)).astype(x.dtype)


def normalized_reference(x: Float[Array, 'b h w c'], gamma: Float[Array, 'b k k c'],
                         beta: Float[Array, 'b k k c'], group_size: int, epsilon: float):
  """(normalized and modulated x, means, variances), the last two as in `moments`.

  k must divide h and w.
  """
  mean, var = moments(x, group_size)
  return modulate(normalize(x, mean, var, epsilon), gamma, beta), mean, var


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalized_folded(x: Float[Array, 'b h w c'], gamma: Float[Array, 'b k k c'],
                      beta: Float[Array, 'b k k c'], group_size: int, epsilon: float):
  """The same, with a gradient that reads the map fewer times and keeps only x in memory.

  The sums over a group that the gradient in x needs follow from the gradients of gamma and beta,
  which are as small as the condition. No gradient flows through the returned means and variances.
  """
  return normalized_reference(x, gamma, beta, group_size, epsilon)


def _forward(x, gamma, beta, group_size, epsilon):
  out, mean, var = normalized_reference(x, gamma, beta, group_size, epsilon)
  return (out, mean, var), (x, gamma, mean, jax.lax.rsqrt(var + epsilon))


def _backward(group_size, epsilon, saved, cotangents):
  x, gamma, mean, scale = saved
  b, h, w, c = x.shape
  k = gamma.shape[1]
  out = cotangents[0].astype(jnp.float32)
  xhat = (x.astype(jnp.float32) - mean) * scale
  # Sums over the pixels that share a gamma and a beta.
  shrink = lambda m: m.reshape(b, k, h // k, k, w // k, c).sum((2, 4))
  # The barrier keeps XLA from turning the sums of these sums into sums over whole maps again.
  for_gamma, for_beta = jax.lax.optimization_barrier((shrink(out * xhat), shrink(out)))
  factors = 1 + gamma.astype(jnp.float32)
  along, constant = (over_groups(jnp.sum(factors * m, (1, 2), keepdims=True), group_size) / (h * w)
                     for m in (for_gamma, for_beta))
  for_x = scale * (out * nearest_up(factors, h // k) - constant - xhat * along)
  return for_x.astype(x.dtype), for_gamma.astype(gamma.dtype), for_beta.astype(gamma.dtype)


normalized_folded.defvjp(_forward, _backward)

NORMALIZED = {'reference': normalized_reference, 'folded': normalized_folded}


class GroupedBatchNorm(nn.Module):
  """Batch normalization, then `modulate`; statistics in float32.

  group_size: the number of examples that share statistics; None means the whole global batch,
    whatever the number of devices. XMC-GAN's released code normalizes the 8 examples of a device,
    which is `group_size=8`.

  Running statistics are averages over groups.
  """
  group_size: int | None = None
  impl: Impl = FAST
  decay: float = 0.9
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], gamma: Float[Array, 'b k k c'],
               beta: Float[Array, 'b k k c'], train: bool) -> Float[Array, 'b h w c']:
    """k must divide h and w."""
    channels = x.shape[-1]
    mean = self.variable('batch_stats', 'mean', jnp.zeros, (channels,))
    var = self.variable('batch_stats', 'var', jnp.ones, (channels,))
    if not train:
      mean, var = (kept.value[None, None, None] for kept in (mean, var))
      return modulate(normalize(x, mean, var, self.epsilon), gamma, beta)
    size = x.shape[0] if self.group_size is None else min(self.group_size, x.shape[0])
    if x.shape[0] % size:
      raise UserError(f'--config.model.bn_group_size={size}: does not divide the batch size '
                      f'{x.shape[0]}; choose a divisor, or None for global statistics')
    out, now_mean, now_var = NORMALIZED[self.impl.norm](x, gamma, beta, size, self.epsilon)
    if not self.is_initializing():
      for variable, now in ((mean, now_mean), (var, now_var)):
        variable.value = self.decay * variable.value + (1 - self.decay) * now.mean((0, 1, 2))
    return out


class ConditionalNorm(nn.Module):
  """Batch normalization with gamma and beta linear in a condition."""
  group_size: int | None = None
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], condition: Float[Array, 'b d'], train: bool
               ) -> Float[Array, 'b h w c']:
    gamma = Dense(x.shape[-1], dtype=self.dtype, name='gamma')(condition)[:, None, None]
    beta = Dense(x.shape[-1], dtype=self.dtype, name='beta')(condition)[:, None, None]
    return GroupedBatchNorm(self.group_size, self.impl, name='norm')(x, gamma, beta, train)


class LocalConditionalNorm(nn.Module):
  """The same with a spatial condition, upsampled to x by nearest neighbor.

  A 1x1 convolution commutes with this upsampling, so gamma and beta are computed at k x k and then
  upsampled. The reference implementation upsamples the condition first, as in the paper's figure.
  """
  group_size: int | None = None
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], condition: Float[Array, 'b k k d'], train: bool
               ) -> Float[Array, 'b h w c']:
    if self.impl.modulation == 'reference':
      condition = nearest_up(condition, x.shape[1] // condition.shape[1])
    gamma = Dense(x.shape[-1], dtype=self.dtype, name='gamma')(condition)
    beta = Dense(x.shape[-1], dtype=self.dtype, name='beta')(condition)
    return GroupedBatchNorm(self.group_size, self.impl, name='norm')(x, gamma, beta, train)
