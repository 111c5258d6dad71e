"""Moments of features: any batches and order, hard numbers, padding, files."""
import io

import numpy as np
import pytest

from xmc_jax.evals import frechet
from xmc_jax.evals.statistics import FeatureStats, finite_pair, finite_rows, squared_distances
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


def test_a_saved_file_gives_the_same_numbers_and_the_same_bytes(tmp_path):
  stats = FeatureStats.of(ROWS)
  for name in ('new/a.npz', 'new/b.npz'):
    stats.save(tmp_path / name)
  read = FeatureStats.load(tmp_path / 'new/a.npz')
  assert read.count == 700
  np.testing.assert_array_equal(read.mean, stats.mean)
  np.testing.assert_array_equal(read.scatter, stats.scatter)
  assert (tmp_path / 'new/a.npz').read_bytes() == (tmp_path / 'new/b.npz').read_bytes()
  assert len(list((tmp_path / 'new').iterdir())) == 2


def npz(**arrays):
  file = io.BytesIO()
  np.savez(file, **arrays)
  return file.getvalue()


@pytest.mark.parametrize('data', [
  b'', b'no archive', npz(count=3, mean=np.zeros(2))[:-30], npz(mean=np.zeros(2)),
  npz(count=3, mean=np.zeros(2), scatter=np.zeros((3, 3))),
  npz(count=3, mean=np.zeros(2), scatter=np.full((2, 2), np.nan)),
  npz(count=3, mean=np.array(['a', 'b']), scatter=np.zeros((2, 2))),
  npz(count=3, mean=np.array([None, {}]), scatter=np.zeros((2, 2)))],
  ids=['empty', 'text', 'cut off', 'other keys', 'shape', 'nan', 'strings', 'objects'])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, data):
  path = tmp_path / 'coco.npz'
  path.write_bytes(data)
  with pytest.raises(UserError, match='statistics .*coco.npz'):
    FeatureStats.load(path)


def test_a_missing_file_and_a_folder_that_is_none_are_errors(tmp_path):
  with pytest.raises(UserError, match='nowhere.npz'):
    FeatureStats.load(tmp_path / 'nowhere.npz')
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='cannot be written'):
    FeatureStats.of(ROWS).save(tmp_path / 'file' / 'a.npz')
