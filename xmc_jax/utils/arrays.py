"""Small array functions that layers, losses and measures share."""
import jax
import jax.numpy as jnp

from xmc_jax.types import Array


def unit(x: Array) -> Array:
  """Vectors along the last axis of `x` scaled to length one, float32; a zero vector stays zero."""
  x = x.astype(jnp.float32)
  return x * jax.lax.rsqrt(jnp.sum(x * x, -1, keepdims=True) + 1e-12)
