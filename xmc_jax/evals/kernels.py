"""Kernel distances: KID (Binkowski et al., arXiv 1801.01401) and CMMD (arXiv 2401.09603)."""
from __future__ import annotations

import numpy as np

from xmc_jax.evals.statistics import MeanStd, finite_pair, finite_rows, squared_distances
from xmc_jax.types import UserError

BLOCK = 2048  # rows and columns of a kernel matrix in memory at a time


def kid(generated: np.ndarray, real: np.ndarray, subsets: int = 100, subset_size: int = 1000,
        seed: int = 2020) -> MeanStd:
  """The unbiased squared MMD with the kernel (x.y / d + 1)^3, over random subsets.

  It is not multiplied by 100 or 1000.

  The subsets are those that torch-fidelity 0.4 draws from the same seed if the generated images are
  its first input, so figures agree up to its float32 rounding. A slightly negative mean is not an
  error: it means that the two sets are alike. 2048 features take about 20 seconds of one CPU core.

  generated, real: features [n, d] and [m, d].
  subsets: how many subsets of each side are compared.
  subset_size: images in a subset, drawn without replacement; at least 2. The mean hardly depends
    on it but the spread does, so report it if it is not 1000.

  Raises UserError for fewer images than `subset_size`, unequal d, or a value that is not finite.
  """
  generated, real = finite_pair(generated, real)
  if subsets < 1 or subset_size < 2:
    raise UserError(f'KID needs at least 1 subset of at least 2 images, not {subsets} of '
                    f'{subset_size}')
  if min(len(generated), len(real)) < subset_size:
    raise UserError(
      f'KID compares subsets of {subset_size:,} images, and there are {len(generated):,} '
      f'generated and {len(real):,} real ones; evaluate more, or give a smaller subset_size')
  rng = np.random.RandomState(seed)
  draw = lambda rows: rows[rng.choice(len(rows), subset_size, replace=False)]  # noqa: E731
  values = [_unbiased(draw(generated), draw(real)) for _ in range(subsets)]
  return MeanStd.of(values)


def cmmd(generated: np.ndarray, real: np.ndarray, sigma: float = 10, scale: float = 1000) -> float:
  """`scale` times the squared MMD of unit vectors with a Gaussian kernel of width `sigma`.

  As in the public reference, this is the biased estimate (a V-statistic, which includes pairs of an
  example with itself). It is never negative; for sets of n and m images it exceeds the unbiased one
  by at most about scale / sigma^2 (1/n + 1/m). The reference's CLIP normalizes its embeddings; here
  `cmmd` does, so raw projections may be given. Memory does not grow with the square of the number
  of images.

  generated, real: CLIP's projected image embeddings, [n, d] and [m, d]; published figures use
    ViT-L/14 at 336 px.

  Raises UserError for no images, unequal d, a value that is not finite, or an embedding of zeros.
  """
  x, y = (unit_rows(rows) for rows in finite_pair(generated, real))
  gamma = 1 / (2 * sigma ** 2)
  return float(scale * (_mean_rbf(x, x, gamma) + _mean_rbf(y, y, gamma)
                        - 2 * _mean_rbf(x, y, gamma)))


def unit_rows(rows: np.ndarray) -> np.ndarray:
  """Rows [n, d] scaled to unit length. UserError if one is zero or not finite."""
  rows = finite_rows(rows)
  lengths = np.linalg.norm(rows, axis=1, keepdims=True)
  if not lengths.all():
    raise UserError(f'{(lengths == 0).sum():,} of {len(rows):,} feature vectors are all zero and '
                    'have no direction; look at the images they come from')
  return rows / lengths


def _unbiased(x: np.ndarray, y: np.ndarray) -> float:
  """MMD^2 of equally many rows, without pairs of a row with itself."""
  m, d = x.shape

  def within(rows):
    kernel = (rows @ rows.T / d + 1) ** 3
    return (kernel.sum() - np.trace(kernel)) / (m * (m - 1))
  return within(x) + within(y) - 2 * ((x @ y.T / d + 1) ** 3).mean()


def _mean_rbf(x: np.ndarray, y: np.ndarray, gamma: float) -> float:
  """The mean over all pairs of exp(-gamma |x_i - y_j|^2) - 1; the ones cancel in the MMD."""
  total = 0.0
  for i in range(0, len(x), BLOCK):
    for j in range(0, len(y), BLOCK):
      total += np.expm1(-gamma * squared_distances(x[i:i + BLOCK], y[j:j + BLOCK])).sum()
  return total / (len(x) * len(y))
