"""Adversarial losses. Logits are higher for what looks real; every loss is a float32 scalar."""
from __future__ import annotations

import jax
import jax.numpy as jnp

from xmc_jax.types import Array, Float


@jax.named_call
def hinge_d(real: Float[Array, '*b'], fake: Float[Array, '*b']) -> Float[Array, '']:
  """Hinge loss of the discriminator: mean relu(1 - real) + mean relu(1 + fake)."""
  real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
  return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))


@jax.named_call
def hinge_matching_d(real: Float[Array, '*b'], fake: Float[Array, '*b'],
                     wrong: Float[Array, '*w']) -> Float[Array, '']:
  """Matching-aware hinge loss of the discriminator, of DF-GAN (arXiv 2008.05865).

  Fakes and wrong pairs get half of the weight each. wrong: logits of real images with captions of
  other images, of any number.
  """
  low = lambda logits: jnp.mean(jax.nn.relu(1 + logits.astype(jnp.float32)))
  high = jnp.mean(jax.nn.relu(1 - real.astype(jnp.float32)))
  return high + (low(fake) + low(wrong)) / 2


@jax.named_call
def hinge_g(fake: Float[Array, '*b']) -> Float[Array, '']:
  """Hinge loss of the generator: -mean fake."""
  return -jnp.mean(fake.astype(jnp.float32))


@jax.named_call
def bce(logits: Float[Array, '*b'], real: bool) -> Float[Array, '']:
  """Mean binary cross-entropy of logits whose target is `real` for all of them."""
  logits = logits.astype(jnp.float32)
  return jnp.mean(jax.nn.softplus(-logits if real else logits))


@jax.named_call
def bce_d(real: tuple[Float[Array, 'b'], Float[Array, 'b']],
          fake: tuple[Float[Array, 'b'], Float[Array, 'b']], wrong: Float[Array, 'w']
          ) -> Float[Array, '']:
  """Cross-entropy of the discriminator with the weights of StackGAN++ (arXiv 1710.10916).

  real, fake: logits of the images alone, and of the images with their captions. wrong: logits of
  real images with captions of other images. The mean of the two real terms plus the mean of the
  three others.
  """
  real = sum(bce(logits, True) for logits in real)
  return real / 2 + sum(bce(logits, False) for logits in (*fake, wrong)) / 3


@jax.named_call
def bce_g(fake: tuple[Float[Array, 'b'], Float[Array, 'b']]) -> Float[Array, '']:
  """Cross-entropy of the generator: the sum over fakes alone and with captions, target real."""
  return sum(bce(logits, True) for logits in fake)
