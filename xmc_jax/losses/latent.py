"""Losses of drawn conditions."""
import jax.numpy as jnp

from xmc_jax.types import Array


def kl_to_normal(mean: Array, log_variance: Array) -> Array:
  """Kullback-Leibler divergence of normal distributions from the standard one, float32.

  mean, log_variance: [b, d]. The mean over rows and features, as StackGAN and its successors take
  it; the divergence itself would be the sum over features.
  """
  mean, log_variance = mean.astype(jnp.float32), log_variance.astype(jnp.float32)
  return -0.5 * jnp.mean(1 + log_variance - jnp.square(mean) - jnp.exp(log_variance))
