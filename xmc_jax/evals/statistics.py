"""Checks that all metrics make of their features, and the distances between these."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xmc_jax.types import UserError
from xmc_jax.utils import regular


class MeanStd(NamedTuple):
  """Mean and standard deviation (ddof 0) of a metric over subsets, splits or folds."""
  mean: float
  std: float

  @classmethod
  def of(cls, values: Sequence[float]) -> MeanStd:
    return cls(float(np.mean(values)), float(np.std(values)))


def finite_rows(rows: np.ndarray, what: str = 'features') -> np.ndarray:
  """`rows` as float64 [n, d].

  Raises UserError if there are no rows, or one holds NaN or an infinite value. Raises ValueError if
  `rows` is not a matrix.
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


class Moments(NamedTuple):
  """Mean [d] and covariance [d, d] of features, as the tools that compute FIDs store them."""
  mean: np.ndarray
  covariance: np.ndarray

  @classmethod
  def of(cls, rows: np.ndarray) -> Moments:
    """Those of features [n, d]; UserError if one is not finite, or n is below 2."""
    rows = finite_rows(rows)
    if len(rows) < 2:
      raise UserError(f'a covariance needs at least 2 images, not {len(rows)}')
    return cls(rows.mean(0), np.atleast_2d(np.cov(rows, rowvar=False)))

  @classmethod
  def load(cls, path: str | os.PathLike[str], flag: str) -> Moments:
    """Reads the arrays `mu` and `sigma` of a .npz, as pytorch-fid, TTUR and clean-fid write it.

    Raises:
      UserError: the file is missing, damaged or something else; the message starts with `flag`.
    """
    try:
      regular.check(path)
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
