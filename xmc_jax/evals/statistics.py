"""Mean and covariance of features in one pass, and checks that all metrics make of their features.

Everything is float64 on the host. Features may come in batches of any size and order, from any
number of processes: sums are taken about the mean of what has been seen, and two of them are merged
exactly (Chan, Golub and LeVeque, "Updating formulae", 1979). No precision is lost if the mean is
large and the variance small.
"""
from __future__ import annotations

import dataclasses
import os
from typing import NamedTuple

import numpy as np

from xmc_jax.types import UserError


def finite_rows(rows: np.ndarray, what: str = 'features') -> np.ndarray:
  """`rows` as float64 [n, d].

  Raises:
    UserError: there are no rows, or one holds NaN or an infinite value.
    ValueError: `rows` is not a matrix.
  """
  rows = np.asarray(rows, np.float64)
  if rows.ndim != 2 or not rows.shape[1]:
    raise ValueError(f'{what} must have shape [n, d], not {rows.shape}')
  if not len(rows):
    raise UserError(f'there are no {what}: a metric needs at least one image')
  wrong = len(rows) - np.isfinite(rows).all(axis=1).sum()
  if wrong:
    raise UserError(
      f'{wrong:,} of {len(rows):,} rows of {what} hold NaN or infinity, so no metric of them is '
      'meaningful; look at the images and weights that they come from')
  return rows


def finite_pair(generated: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Both as by `finite_rows`, [n, d] and [m, d]; UserError also if d differs."""
  generated = finite_rows(generated, 'generated features')
  real = finite_rows(real, 'real features')
  if generated.shape[1] != real.shape[1]:
    raise UserError(f'features of {generated.shape[1]:,} and {real.shape[1]:,} numbers cannot be '
                    'compared; take both from the same network')
  return generated, real


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """|x_i - y_j|^2 of float64 rows [n, d] and [m, d]: [n, m], never below zero."""
  squares = x @ y.T
  squares *= -2
  squares += (x * x).sum(1)[:, None]
  squares += (y * y).sum(1)
  return np.maximum(squares, 0, out=squares)


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureStats:
  """Moments of `count` feature vectors; immutable, so `add` and `merge` return new ones.

  count    int
  mean     [d]
  scatter  [d, d], the sum of the outer products of the centered vectors
  """

  count: int
  mean: np.ndarray
  scatter: np.ndarray

  @classmethod
  def of(cls, rows: np.ndarray, weight: np.ndarray | None = None) -> FeatureStats:
    """The moments of one batch.

    Args:
      rows: [n, d], any real type.
      weight: [n], 1 or True where a row counts; a row of weight 0 is padding and may hold anything.
    Raises:
      UserError: a row that counts holds NaN or infinity.
      ValueError: the shapes do not match, or a weight is neither 0 nor 1.
    """
    rows = np.asarray(rows)
    if weight is not None:
      weight = np.asarray(weight)
      if weight.shape != rows.shape[:1] or not np.isin(weight, (0, 1)).all():
        raise ValueError('weight must be one 0 or 1 for each row')
      rows = rows[weight.astype(bool)]
    if rows.ndim == 2 and not len(rows):
      d = rows.shape[1]
      return cls(0, np.zeros(d), np.zeros((d, d)))
    rows = finite_rows(rows)
    mean = rows.mean(axis=0)
    centered = rows - mean
    return cls(len(rows), mean, centered.T @ centered)

  def add(self, rows: np.ndarray, weight: np.ndarray | None = None) -> FeatureStats:
    """The moments with another batch included; arguments and errors as of `of`."""
    return self.merge(FeatureStats.of(rows, weight))

  def merge(self, other: FeatureStats) -> FeatureStats:
    """The moments of both sets together. UserError if the numbers of features differ."""
    if self.mean.shape != other.mean.shape:
      raise UserError(
        f'statistics of {len(self.mean):,} and {len(other.mean):,} features cannot be joined; '
        'take both from the same network')
    if not other.count:
      return self
    count = self.count + other.count
    step = other.mean - self.mean
    share = other.count / count
    scatter = self.scatter + other.scatter
    scatter += np.outer(step * (self.count * share), step)
    return FeatureStats(count, self.mean + step * share, scatter)

  def covariance(self) -> np.ndarray:
    """[d, d], divided by count - 1 as usual for FID; UserError for fewer than two images."""
    if self.count < 2:
      raise UserError(f'a covariance needs at least 2 images, not {self.count}')
    return self.scatter / (self.count - 1)


class Moments(NamedTuple):
  """Mean [d] and covariance [d, d] of features, as the tools that compute FIDs store them."""
  mean: np.ndarray
  covariance: np.ndarray

  @classmethod
  def load(cls, path: str | os.PathLike[str], flag: str) -> Moments:
    """Reads the arrays `mu` and `sigma` of a .npz, as pytorch-fid, TTUR and clean-fid write it.

    Raises:
      UserError: the file is missing, damaged or something else; the message starts with `flag`.
    """
    try:
      with np.load(path, allow_pickle=False) as file:
        if not {'mu', 'sigma'} <= set(file.files):
          raise UserError(f'{flag}: {path} has the arrays {", ".join(file.files)}; statistics of '
                          'FID have mu and sigma')
        mean, covariance = (np.asarray(file[name], np.float64) for name in ('mu', 'sigma'))
    except UserError:
      raise
    except Exception as error:  # a damaged archive can fail in any way
      raise UserError(f'{flag}: the statistics {path} cannot be read ({error}); compute them '
                      'again') from error
    d = mean.size
    if mean.shape != (d,) or covariance.shape != (d, d) or not (
        np.isfinite(mean).all() and np.isfinite(covariance).all()):
      raise UserError(f'{flag}: mu {list(mean.shape)} and sigma {list(covariance.shape)} in {path} '
                      'are not a mean and a covariance of finite numbers; compute them again')
    return cls(mean, covariance)
