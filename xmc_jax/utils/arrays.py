"""Small array functions shared by layers, losses and metrics."""
import jax
import jax.numpy as jnp

from xmc_jax.types import Array


def unit(x: Array) -> Array:
  """Scales the vectors along the last axis to unit length, in float32; zero vectors stay zero."""
  x = x.astype(jnp.float32)
  return x * jax.lax.rsqrt(jnp.sum(x * x, -1, keepdims=True) + 1e-12)
