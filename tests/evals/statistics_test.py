"""Checks of features, and squared distances between them."""
import io

import numpy as np
import pytest

from xmc_jax.evals.statistics import Moments, finite_pair, finite_rows, squared_distances
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


def npz(**arrays):
  file = io.BytesIO()
  np.savez(file, **arrays)
  return file.getvalue()


def test_statistics_of_other_tools_are_read(tmp_path):
  of_rows = Moments.of(ROWS)
  np.savez(tmp_path / 'a.npz', mu=of_rows.mean, sigma=of_rows.covariance, more=np.zeros(3))
  mean, covariance = Moments.load(tmp_path / 'a.npz', '--reference')
  np.testing.assert_allclose(mean, ROWS.mean(0), rtol=1e-12)
  np.testing.assert_allclose(covariance, np.cov(ROWS.T), atol=1e-12)
  np.savez(tmp_path / 'b.npz', mu=np.float32(mean), sigma=np.float32(covariance))
  assert Moments.load(tmp_path / 'b.npz', '').covariance.dtype == np.float64


@pytest.mark.parametrize('data, words', [
  (b'', 'cannot be read'), (b'no archive', 'cannot be read'),
  (npz(mu=np.zeros(2), sigma=np.eye(2))[:-30], 'cannot be read'),
  (npz(arr_0=np.zeros(2), mu=np.zeros(2)), 'arrays arr_0, mu'),
  (npz(mu=np.zeros(2), sigma=np.eye(3)), r'mu \[2\] and sigma \[3, 3\]'),
  (npz(mu=np.zeros((2, 2)), sigma=np.eye(4)), r'mu \[2, 2\]'),
  (npz(mu=np.zeros(2), sigma=np.full((2, 2), np.nan)), 'finite'),
  (npz(mu=np.array(['a', 'b']), sigma=np.eye(2)), 'cannot be read'),
  (npz(mu=np.array([None, {}]), sigma=np.eye(2)), 'cannot be read')],
  ids=['empty', 'text', 'cut off', 'keys', 'shape', 'axes', 'nan', 'strings', 'objects'])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, data, words):
  (tmp_path / 'coco.npz').write_bytes(data)
  with pytest.raises(UserError, match=f'--reference: .*coco.npz.*{words}|{words}.*coco.npz'):
    Moments.load(tmp_path / 'coco.npz', '--reference')


def test_a_missing_file_is_an_error(tmp_path):
  with pytest.raises(UserError, match='nowhere.npz.*No such file'):
    Moments.load(tmp_path / 'nowhere.npz', '--reference')
