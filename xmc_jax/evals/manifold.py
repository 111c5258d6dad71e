"""Fidelity and variety apart: precision, recall, density and coverage by nearest neighbours.

A set of features stands for the region covered by balls around its rows, each as large as the
distance to the row's k-th nearest neighbour in the same set.

* precision and recall: Kynkaanniemi et al., arXiv 1904.06991, k = 3 (in the paper VGG16's second
  fully connected layer, 50,000 images a side).
* density and coverage: Naeem et al., arXiv 2002.09797, k = 5.

Which network the features are from and how many images there are decide the figures: name both.
A row on the rim of a ball is inside, as in the first paper; the code of the second leaves it out,
which matters only for exact copies. A beta of torch-fidelity 0.4 interchanged precision and recall;
here the first argument is the generated one and the fields have names.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from xmc_jax.evals.statistics import finite_pair, squared_distances
from xmc_jax.types import UserError

ENTRIES = 2 ** 24  # distances in memory at a time; 128 MB


class PrecisionRecall(NamedTuple):
  """Shares in [0, 1]: generated rows inside the real region, real rows inside the generated one."""

  precision: float
  recall: float


class DensityCoverage(NamedTuple):
  """How often generated rows lie in real balls, against k (above 1 is possible); the share of real
  balls that hold a generated row, in [0, 1]."""

  density: float
  coverage: float


def precision_recall(generated: np.ndarray, real: np.ndarray, k: int = 3) -> PrecisionRecall:
  """Improved precision and recall, exactly, in blocks.

  Time grows with the product of the rows: 5,000 rows of 2048 features on each side take about 8
  seconds of one CPU core, 30,000 about five minutes.

  Args:
    generated, real: [n, d] and [m, d], best as many on both sides.
    k: the neighbour that a ball reaches to; more makes both larger.
  Raises:
    UserError: no more than k rows on a side, unequal d, or a value that is not finite.
  """
  generated, real = _pair(generated, real, k)
  real_radii, generated_radii = _radii(real, k), _radii(generated, k)
  precise, recalled = 0, np.zeros(len(real), bool)
  for part, squares in _blocks(generated, real):
    precise += int((squares <= real_radii).any(axis=1).sum())
    recalled |= (squares <= generated_radii[part, None]).any(axis=0)
  return PrecisionRecall(precise / len(generated), float(recalled.mean()))


def density_coverage(generated: np.ndarray, real: np.ndarray, k: int = 5) -> DensityCoverage:
  """Density and coverage, exactly, in blocks; arguments and errors as of `precision_recall`."""
  generated, real = _pair(generated, real, k)
  radii = _radii(real, k)
  inside, covered = 0, np.zeros(len(real), bool)
  for _, squares in _blocks(generated, real):
    within = squares <= radii
    inside += int(within.sum())
    covered |= within.any(axis=0)
  return DensityCoverage(inside / (k * len(generated)), float(covered.mean()))


def _pair(generated: np.ndarray, real: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
  generated, real = finite_pair(generated, real)
  if k < 1 or min(len(generated), len(real)) <= k:
    raise UserError(
      f'The neighbour number {k} of each row needs more than {k} rows on each side, and there are '
      f'{len(generated):,} generated and {len(real):,} real ones; evaluate more.')
  return generated, real


def _blocks(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
  """Slices of the rows of `x` and their squared distances to all rows of `y`."""
  size = max(ENTRIES // len(y), 1)
  for start in range(0, len(x), size):
    rows = slice(start, start + size)
    yield rows, squared_distances(x[rows], y)


def _radii(rows: np.ndarray, k: int) -> np.ndarray:
  """The squared distance of each row to its k-th nearest other row: [n]."""
  radii = np.empty(len(rows))
  for part, squares in _blocks(rows, rows):
    own = np.arange(len(squares))
    squares[own, part.start + own] = np.inf
    radii[part] = np.partition(squares, k - 1, axis=1)[:, k - 1]
  return radii
