"""Checks of features, and squared distances between them."""
import numpy as np
import pytest

from xmc_jax.evals.statistics import finite_pair, finite_rows, squared_distances
from xmc_jax.types import UserError

ROWS = np.random.RandomState(0).gamma(0.5, size=(700, 24)) @ np.random.RandomState(1).randn(24, 24)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_an_error_that_counts_them(value):
  rows = ROWS.copy()
  rows[[3, 5], 2] = value
  with pytest.raises(UserError, match='2 of 700 rows of features'):
    finite_rows(rows)


def test_wrong_shapes_and_sizes_are_errors():
  with pytest.raises(ValueError, match=r'\[n, d\]'):
    finite_rows(ROWS[0])
  with pytest.raises(UserError, match='no generated images'):
    finite_rows(ROWS[:0], 'generated images')
  with pytest.raises(UserError, match='24 and 5 numbers'):
    finite_pair(ROWS, ROWS[:, :5])


def test_squared_distances_are_those_of_differences():
  slow = ((ROWS[:50, None] - ROWS[None, 20:90]) ** 2).sum(-1)
  np.testing.assert_allclose(squared_distances(ROWS[:50], ROWS[20:90]), slow, atol=1e-11)
  assert squared_distances(ROWS, ROWS).min() >= 0
