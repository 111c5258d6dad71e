"""Adversarial losses. Logits [b], higher means real; each returns a float32 scalar."""
import jax
import jax.numpy as jnp

from xmc_jax.types import Array


def hinge_d(real: Array, fake: Array) -> Array:
  """The discriminator's hinge loss: mean relu(1 - real) + mean relu(1 + fake)."""
  real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
  return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))


def hinge_matching_d(real: Array, fake: Array, wrong: Array) -> Array:
  """The same with real images under wrong captions, which share the half of the fakes.

  wrong: logits, of any number of rows. The matching-aware loss of DF-GAN (arXiv 2008.05865).
  """
  low = lambda logits: jnp.mean(jax.nn.relu(1 + logits.astype(jnp.float32)))
  high = jnp.mean(jax.nn.relu(1 - real.astype(jnp.float32)))
  return high + (low(fake) + low(wrong)) / 2


def hinge_g(fake: Array) -> Array:
  """The generator's side of the hinge loss: -mean fake."""
  return -jnp.mean(fake.astype(jnp.float32))


def bce(logits: Array, real: bool) -> Array:
  """Mean binary cross entropy of logits that should all say `real` or all say fake."""
  logits = logits.astype(jnp.float32)
  return jnp.mean(jax.nn.softplus(-logits if real else logits))


def bce_d(real: tuple[Array, Array], fake: tuple[Array, Array], wrong: Array) -> Array:
  """The discriminator's cross entropy of images alone and with captions, as StackGAN++ weighs it.

  real, fake: logits of the images alone, and with their captions; wrong: of real images with
  captions of others. Mean of the real two plus mean of the other three.
  """
  real = sum(bce(logits, True) for logits in real)
  return real / 2 + sum(bce(logits, False) for logits in (*fake, wrong)) / 3


def bce_g(fake: tuple[Array, Array]) -> Array:
  """The generator's side: the sum over fakes alone and with captions, as if they were real."""
  return sum(bce(logits, True) for logits in fake)
