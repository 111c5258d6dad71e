"""Penalties on the gradient norm of a discriminator."""
import jax.numpy as jnp

from xmc_jax.types import Array


def ma_gp(grad_norm_sq: Array) -> Array:
  """Twice the mean of |gradient|^6, float32: the matching-aware penalty of DF-GAN.

  grad_norm_sq: [b], the *squared* L2 norm of the gradient of an example's logit in the real image and its
  caption (arXiv 2008.05865, k = 2 and p = 6). From the square there is no root to differentiate at
  a gradient of zero.
  """
  return 2 * jnp.mean(grad_norm_sq.astype(jnp.float32) ** 3)
