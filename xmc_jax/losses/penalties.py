"""Penalties on the gradient of a discriminator."""
from __future__ import annotations

import jax
import jax.numpy as jnp

from xmc_jax.types import Array, Float


@jax.named_call
def ma_gp(grad_norm_sq: Float[Array, 'b']) -> Float[Array, '']:
  """Matching-aware gradient penalty of DF-GAN (arXiv 2008.05865, k = 2 and p = 6), float32.

  Twice the mean of |gradient|^6. grad_norm_sq: the *squared* L2 norm of the gradient of an
  example's logit in the real image and its caption. Starting from the square avoids differentiating
  a square root where the gradient is zero.
  """
  return 2 * jnp.mean(grad_norm_sq.astype(jnp.float32) ** 3)
