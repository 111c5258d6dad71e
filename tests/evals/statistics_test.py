"""Moments of features: any batches and order, hard numbers, padding, files."""
import io

import numpy as np
import pytest

from xmc_jax.evals import frechet
from xmc_jax.evals.statistics import (
    FeatureStats,
    Moments,
    finite_pair,
    finite_rows,
    squared_distances,
)
from xmc_jax.types import UserError

ROWS = np.random.RandomState(0).gamma(0.5, size=(700, 24)) @ np.random.RandomState(1).randn(24, 24)
OTHER = FeatureStats.of(np.random.RandomState(2).randn(300, 24))


def in_batches(rows, size):
  stats = FeatureStats.of(rows[:0])
  for start in range(0, len(rows), size):
    stats = stats.add(rows[start:start + size])
  return stats


def as_tree(rows):
  """Merged in pairs, as processes would."""
  if len(rows) < 3:
    return FeatureStats.of(rows)
  cut = len(rows) // 3
  return as_tree(rows[cut:]).merge(as_tree(rows[:cut]))


def test_moments_are_numpys():
  stats = FeatureStats.of(ROWS)
  assert stats.count == 700
  np.testing.assert_allclose(stats.mean, ROWS.mean(0), rtol=1e-13)
  np.testing.assert_allclose(stats.covariance(), np.cov(ROWS, rowvar=False), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize('stats', [
  in_batches(ROWS, 1), in_batches(ROWS, 7), in_batches(ROWS, 64), in_batches(ROWS[::-1], 33),
  in_batches(ROWS[np.random.RandomState(3).permutation(700)], 100), as_tree(ROWS)],
  ids=['1', '7', '64', 'backwards', 'shuffled', 'tree'])
def test_the_distance_does_not_depend_on_batches_order_or_tree(stats):
  assert stats.count == 700
  whole = frechet.frechet_of_stats(FeatureStats.of(ROWS), OTHER)
  assert abs(frechet.frechet_of_stats(stats, OTHER) - whole) < 1e-9
  assert whole > 1


def test_two_million_rows_with_a_mean_a_hundred_million_times_their_spread():
  n, mean = 2_000_000, 1e8
  walk = np.arange(n) % 5 - 2.0  # variance 2 but for the n - 1
  rows = np.stack([mean + walk, -mean + 3 * walk, mean + np.roll(walk, 2)], 1)
  step = np.mean(walk * np.roll(walk, 2))
  exact = np.array([[2, 6, step], [6, 18, 3 * step], [step, 3 * step, 2]]) * n / (n - 1)
  for stats in (in_batches(rows, 4096), FeatureStats.of(rows)):
    np.testing.assert_allclose(stats.covariance(), exact, rtol=1e-11)
    np.testing.assert_allclose(stats.mean, [mean, -mean, mean], rtol=1e-14)
  naive = rows.T @ rows / n - np.outer(stats.mean, stats.mean)
  assert abs(naive - exact).max() > 0.1  # sums of squares would have lost it


def test_padding_does_not_count_even_if_it_is_nan():
  weight = np.arange(700) % 3 > 0
  padded = np.where(weight[:, None], ROWS, np.nan)
  stats = FeatureStats.of(padded, weight)
  alone = FeatureStats.of(ROWS[weight])
  assert stats.count == alone.count == weight.sum()
  np.testing.assert_array_equal(stats.scatter, alone.scatter)
  nothing = alone.add(padded[:2] * np.nan, np.zeros(2))
  np.testing.assert_array_equal(nothing.scatter, alone.scatter)


def test_adding_leaves_the_first_value_as_it_was():
  stats = FeatureStats.of(ROWS)
  before = stats.scatter.copy()
  assert stats.add(ROWS).count == 1400
  assert stats.count == 700
  np.testing.assert_array_equal(stats.scatter, before)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_an_error_that_counts_them(value):
  rows = ROWS.copy()
  rows[[3, 5], 2] = value
  with pytest.raises(UserError, match='2 of 700 rows of features'):
    FeatureStats.of(rows)


def test_wrong_shapes_and_sizes_are_errors():
  with pytest.raises(ValueError, match='one 0 or 1'):
    FeatureStats.of(ROWS, np.full(700, 0.5))
  with pytest.raises(ValueError, match='one 0 or 1'):
    FeatureStats.of(ROWS, np.ones(3))
  with pytest.raises(ValueError, match=r'\[n, d\]'):
    FeatureStats.of(ROWS[0])
  with pytest.raises(UserError, match='24 and 5 features'):
    FeatureStats.of(ROWS).add(ROWS[:, :5])
  with pytest.raises(UserError, match='at least 2 images, not 1'):
    FeatureStats.of(ROWS[:1]).covariance()
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
  stats = FeatureStats.of(ROWS)
  np.savez(tmp_path / 'a.npz', mu=stats.mean, sigma=stats.covariance(), more=np.zeros(3))
  mean, covariance = Moments.load(tmp_path / 'a.npz', '--reference')
  np.testing.assert_array_equal(mean, ROWS.mean(0))
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
