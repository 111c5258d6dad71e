"""From captions and noise to pictures, with a trained generator."""
from __future__ import annotations

import jax
import numpy as np

from xmc_jax.engine.mesh import by_row, replicated
from xmc_jax.recipes import Recipe
from xmc_jax.types import Array, Tree, UserError


def draw_noise(rng: Array, rows: int, features: int, truncation: float | None = None) -> Array:
  """Noise float32 [rows, features], standard normal; values beyond +-truncation are drawn again.

  Low truncation gives safer and less varied pictures (Brock et al. 2018, arXiv 1809.11096).
  """
  if truncation is None:
    return jax.random.normal(rng, (rows, features))
  if truncation <= 0:
    raise UserError(f'--truncation = {truncation} must be above 0; 0.5 is strong, 2 weak')
  return jax.random.truncated_normal(rng, -truncation, truncation, (rows, features))


class Sampler:
  """Draws any number of captions in batches of one shape, spread over the devices of a mesh."""

  def __init__(self, recipe: Recipe, mesh: jax.sharding.Mesh, rows: int = 32):
    self._rows = -(-rows // mesh.size) * mesh.size
    self._by_row, everywhere = by_row(mesh, rounds=False), replicated(mesh)
    self._sample = jax.jit(recipe.sample, out_shardings=everywhere)

  def __call__(self, params: Tree, stats: Tree, frozen: dict[str, Tree], tokens: np.ndarray,
               mask: np.ndarray, z: Array) -> np.ndarray:
    """tokens, mask [n, t] and z [n, z features] -> pictures float32 [n, h, w, 3] in [0, 1]."""
    n, z, pictures = len(tokens), np.asarray(z), []
    for start in range(0, n, self._rows):
      chosen = np.minimum(np.arange(start, start + self._rows), n - 1)    # the last batch is filled
      put = lambda x: jax.device_put(x[chosen], self._by_row)
      batch = {'tokens': put(tokens), 'mask': put(mask)}
      pictures.append(jax.device_get(self._sample(params, stats, frozen, batch, put(z))))
    return np.concatenate(pictures)[:n]
