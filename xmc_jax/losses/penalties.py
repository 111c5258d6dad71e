"""Penalties on the slope of a critic."""
import jax.numpy as jnp

from xmc_jax.types import Array


def sixth_power(slope: Array) -> Array:
  """Twice the mean of |gradient|^6, float32: the matching-aware penalty of DF-GAN.

  slope: [b], the *squared* length of the gradient of a row's logit in the real picture and its
  caption (arXiv 2008.05865, k = 2 and p = 6). From the square there is no root to differentiate at
  a gradient of zero.
  """
  return 2 * jnp.mean(slope.astype(jnp.float32) ** 3)
