"""Differentiable augmentation (DiffAugment, Zhao et al. 2020, arXiv 2006.10738).

Each policy is a function (rng, image [h, w, 3] in [0, 1]) -> image of the same shape,
differentiable in the image. It is applied to real and fake images before the discriminator, for
training sets of a few thousand images.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from xmc_jax.types import Array, Float, UserError


def color(rng: Array, x: Float[Array, 'h w 3']) -> Float[Array, 'h w 3']:
  """Brightness +-0.25, saturation x[0, 2], contrast x[0.5, 1.5]; makes color words unreliable.

  The authors' code has images in [-1, 1] and +-0.5.
  """
  brightness, saturation, contrast = jax.random.uniform(rng, (3,))
  x = x + (brightness - 0.5) / 2
  gray = x.mean(2, keepdims=True)
  x = (x - gray) * (2 * saturation) + gray
  level = x.mean()
  return (x - level) * (contrast + 0.5) + level


def translation(rng: Array, x: Float[Array, 'h w 3'], share: float = 0.125
                ) -> Float[Array, 'h w 3']:
  """A shift by up to `share` of the side in both directions; the border is repeated."""
  h, w, _ = x.shape
  down, right = (jax.random.randint(key, (), -int(size * share), int(size * share) + 1)
                 for key, size in zip(jax.random.split(rng), (h, w)))
  rows = jnp.clip(jnp.arange(h) + down, 0, h - 1)
  columns = jnp.clip(jnp.arange(w) + right, 0, w - 1)
  x = jnp.take_along_axis(x, rows[:, None, None], 0)
  return jnp.take_along_axis(x, columns[None, :, None], 1)


def cutout(rng: Array, x: Float[Array, 'h w 3'], share: float = 0.5) -> Float[Array, 'h w 3']:
  """A square of `share` of the side at a random position is set to gray (0.5)."""
  h, w, _ = x.shape

  def outside(key, size):
    start = jax.random.randint(key, (), -int(size * share / 2), size - int(size * share / 2))
    at = jnp.arange(size)
    return (at < start) | (at >= start + int(size * share))

  y_key, x_key = jax.random.split(rng)
  keep = outside(y_key, h)[:, None] | outside(x_key, w)[None]
  return jnp.where(keep[..., None], x, 0.5)


POLICIES = {'color': color, 'translation': translation, 'cutout': cutout}


def augmentation(names: Sequence[str]) -> Callable[[Array, Array], Array]:
  """The named policies in sequence: (rngs [b], images [b, h, w, 3]) -> images.

  Raises UserError for an unknown name.
  """
  unknown = [n for n in names if n not in POLICIES]
  if unknown:
    raise UserError(f'--config.model.augment={unknown[0]}: it is unknown; choose from '
                    f'{", ".join(sorted(POLICIES))}')

  def augment(rng, x):
    for name, key in zip(names, jax.random.split(rng, max(len(names), 1))):
      x = POLICIES[name](key, x)
    return x
  return jax.vmap(augment)
