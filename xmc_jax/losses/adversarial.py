"""Adversarial losses. Logits [b], higher means real; each returns a float32 scalar."""
import jax
import jax.numpy as jnp

from xmc_jax.types import Array


def hinge_d(real: Array, fake: Array) -> Array:
  """The critic's hinge loss: mean relu(1 - real) + mean relu(1 + fake)."""
  real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
  return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))


def hinge_g(fake: Array) -> Array:
  """The generator's side of the hinge loss: -mean fake."""
  return -jnp.mean(fake.astype(jnp.float32))
