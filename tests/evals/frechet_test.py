"""The Frechet distance against closed forms, scipy's square root and torch-fidelity."""
import numpy as np
import pytest

from xmc_jax.evals import frechet
from xmc_jax.types import UserError

# torch-fidelity 0.4.0, for `features(700, 64, 1)` and `features(900, 64, 2)` in float64. In float32
# it gives 1.2006064610, because it computes means in float32.
GOLDEN = 1.2006062968078695


def features(n, d, seed):
  mix = np.random.RandomState(99).randn(d, d) / np.sqrt(d)
  x = np.maximum(np.random.RandomState(seed).randn(n, d) @ mix + 0.1 * seed, 0)
  return x.astype(np.float32).astype(np.float64)  # so that both types hold the same numbers


def rotation(d, seed=0):
  return np.linalg.qr(np.random.RandomState(seed).randn(d, d))[0]


def covariance(values, turn):
  return turn * values @ turn.T


def test_one_dimension():
  assert frechet.frechet_distance([1.0], [[4.0]], [4.0], [[9.0]]) == pytest.approx(10, abs=1e-12)


def test_diagonal_gaussians():
  r = np.random.RandomState(0)
  m1, m2 = r.randn(2, 30)
  v1, v2 = r.gamma(1, size=(2, 30))
  exact = ((m1 - m2) ** 2).sum() + ((np.sqrt(v1) - np.sqrt(v2)) ** 2).sum()
  found = frechet.frechet_distance(m1, np.diag(v1), m2, np.diag(v2))
  assert found == pytest.approx(exact, abs=1e-11)


@pytest.mark.parametrize('rank1, rank2', [(40, 40), (40, 7), (5, 9), (1, 40), (0, 12)])
def test_commuting_covariances_of_any_rank(rank1, rank2):
  r, turn = np.random.RandomState(1), rotation(40)
  v1, v2 = r.gamma(1, size=(2, 40)) * 10.0 ** r.uniform(-3, 2, (2, 40))
  v1[rank1:] = 0
  v2[rank2:] = 0
  zero = np.zeros(40)
  exact = ((np.sqrt(v1) - np.sqrt(v2)) ** 2).sum()
  found = frechet.frechet_distance(zero, covariance(v1, turn), zero, covariance(v2, turn))
  assert found == pytest.approx(exact, rel=1e-11)


def test_regions_that_do_not_overlap_add_their_traces():
  turn, v = rotation(20), np.arange(1.0, 11)
  a = covariance(np.append(v, np.zeros(10)), turn)
  b = covariance(np.append(np.zeros(10), v), turn)
  assert frechet.frechet_distance(np.zeros(20), a, np.zeros(20), b) == pytest.approx(110, rel=1e-12)


@pytest.mark.parametrize('n', [12, 500])
def test_a_set_and_itself_are_no_further_apart_than_rounding(n):
  rows = features(n, 40, 1)
  assert 0 <= frechet.frechet_of_features(rows, rows) < 1e-10 * rows.var(0, ddof=1).sum()


def test_it_is_symmetric_and_grows_with_the_square_of_scale():
  a, b = features(300, 20, 1), features(400, 20, 2)
  ab = frechet.frechet_of_features(a, b)
  assert frechet.frechet_of_features(b, a) == pytest.approx(ab, abs=1e-11)
  assert frechet.frechet_of_features(1000 * a, 1000 * b) == pytest.approx(1e6 * ab, rel=1e-10)


@pytest.mark.parametrize('n, m', [(50, 60), (3, 200), (200, 3), (2, 2), (300, 400)])
def test_with_fewer_images_than_features_it_is_that_of_their_products(n, m):
  # The trace of the square root from the singular values of the n x m products of centered rows.
  a, b = features(n, 128, 1), features(m, 128, 2)
  x, y = ((rows - rows.mean(0)) / np.sqrt(len(rows) - 1) for rows in (a, b))
  exact = (((a.mean(0) - b.mean(0)) ** 2).sum() + (x ** 2).sum() + (y ** 2).sum()
           - 2 * np.linalg.svd(x @ y.T, compute_uv=False).sum())
  assert frechet.frechet_of_features(a, b) == pytest.approx(exact, abs=1e-8)


def test_a_mean_a_hundred_million_times_the_spread_loses_nothing():
  walk = np.arange(20_000) % 5 - 2.0
  near, far = (np.stack([mean + walk, 3 * walk - mean, mean + np.roll(walk, 2)], 1)
               for mean in (0, 1e8))
  shifted = frechet.frechet_of_features(far, far + [3, 0, 4])
  assert shifted == pytest.approx(frechet.frechet_of_features(near, near + [3, 0, 4]), abs=1e-6)
  assert shifted == pytest.approx(25, abs=1e-6)


def test_the_golden_figure_of_torch_fidelity():
  a, b = features(700, 64, 1), features(900, 64, 2)
  assert frechet.frechet_of_features(a, b) == pytest.approx(GOLDEN, abs=1e-10)
  single = [x.astype(np.float32) for x in (a, b)]
  assert frechet.frechet_of_features(*single) == pytest.approx(GOLDEN, abs=1e-5)


@pytest.mark.parametrize('dtype, near', [(np.float64, 1e-8), (np.float32, 1e-5)])
@pytest.mark.parametrize('n, m, d', [(700, 900, 64), (3000, 2500, 256), (150, 150, 256)])
def test_fid_is_torch_fidelitys(n, m, d, dtype, near):
  pytest.importorskip('torch_fidelity')
  import torch
  from torch_fidelity import metric_fid
  a, b = (features(rows, d, seed).astype(dtype) for rows, seed in ((n, 1), (m, 2)))
  theirs = metric_fid.fid_statistics_to_metric(
    *[metric_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)],
    verbose=False)['frechet_inception_distance']
  ours = frechet.frechet_of_features(a, b)
  # Below as many images as features their eigenvalues of a singular product are the coarser ones.
  assert ours == pytest.approx(theirs, abs=near if min(n, m) > d else 1e-5)


def test_fid_is_that_of_scipys_square_root():
  linalg = pytest.importorskip('scipy.linalg')
  a, b = (features(n, 100, s) for n, s in ((800, 1), (700, 2)))
  cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
  theirs = (((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b)
            - 2 * np.trace(linalg.sqrtm(cov_a @ cov_b).real))
  assert frechet.frechet_of_features(a, b) == pytest.approx(theirs, abs=1e-8)


def test_what_is_no_covariance_is_an_error():
  zero, one = np.zeros(3), np.eye(3)
  wrong = {
    'eigenvalue': np.diag([1.0, 1, -1e-3]), 'not symmetric': one + np.eye(3, k=1),
    'NaN': one * np.nan, 'square': np.ones((3, 2)), '3 features and covariances of 4': np.eye(4)}
  for words, matrix in wrong.items():
    for pair in ((one, matrix), (matrix, one)):
      with pytest.raises(UserError, match='3 and 4|4 and 3' if '4' in words else words):
        frechet.frechet_distance(zero, pair[0], zero, pair[1])
  with pytest.raises(UserError, match='vector'):
    frechet.frechet_distance(zero * np.nan, one, zero, one)


def test_rounding_below_zero_is_no_error():
  almost = np.diag([1.0, 1, -1e-12])
  found = frechet.frechet_distance(np.zeros(3), almost, np.zeros(3), np.diag([1.0, 1, 0]))
  assert found == pytest.approx(0, abs=1e-11)


def test_too_few_or_unlike_rows_are_errors():
  with pytest.raises(UserError, match='at least 2 images, not 1'):
    frechet.frechet_of_features(np.ones((1, 3)), np.ones((5, 3)))
  with pytest.raises(UserError, match='3 and 4 numbers'):
    frechet.frechet_of_features(np.ones((5, 3)), np.ones((5, 4)))
  with pytest.raises(UserError, match='NaN'):
    frechet.frechet_of_features(np.ones((5, 3)), np.full((5, 3), np.nan))
