"""Losses of latent distributions."""
from __future__ import annotations

import jax
import jax.numpy as jnp

from xmc_jax.types import Array, Float


@jax.named_call
def kl_to_normal(mean: Float[Array, 'b d'], log_variance: Float[Array, 'b d']) -> Float[Array, '']:
  """Kullback-Leibler divergence of diagonal normal distributions from the standard one, float32.

  The mean over examples and features, as in StackGAN and its successors; the divergence itself
  would be the sum over features.
  """
  mean, log_variance = mean.astype(jnp.float32), log_variance.astype(jnp.float32)
  return -0.5 * jnp.mean(1 + log_variance - jnp.square(mean) - jnp.exp(log_variance))
