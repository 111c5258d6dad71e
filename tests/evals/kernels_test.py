"""KID and CMMD against slow sums, torch-fidelity and the public code of CMMD."""
import types

import numpy as np
import pytest

from xmc_jax.evals import kernels, protocols, scores
from xmc_jax.types import UserError

# torch-fidelity 0.4.0 in float64: 10 subsets of 300 of `features(700, 1)` and `features(900, 2)`.
GOLDEN_KID = (0.02051921502271199, 0.004223622443403814)
# The public reference's arithmetic in float64, of the same features at length one.
GOLDEN_CMMD = 0.022179575213767885


def features(n, seed, d=64):
  mix = np.random.RandomState(99).randn(d, d) / np.sqrt(d)
  x = np.random.RandomState(seed).randn(n, d) @ mix + 0.1 * seed
  return np.maximum(x, 0).astype(np.float32)


def slow_unbiased(x, y):
  """The sum over pairs, as the paper writes it."""
  d, m, n = x.shape[1], len(x), len(y)
  k = lambda a, b: (float(a @ b) / d + 1) ** 3  # noqa: E731
  xx = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
  yy = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
  return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (m * n)


def test_one_subset_of_all_rows_is_the_sum_over_pairs():
  x, y = features(25, 1).astype(float), features(25, 2).astype(float)
  found = kernels.kid(x, y, subsets=1, subset_size=25)
  assert found.mean == pytest.approx(slow_unbiased(x, y), abs=1e-12)
  assert found.std == 0


def test_kid_is_unbiased_and_biased_it_would_not_be():
  found = kernels.kid(features(900, 1), features(900, 1)[::-1], subsets=50, subset_size=30)
  assert abs(found.mean) < 4 * found.std / np.sqrt(50)
  assert kernels.kid(features(900, 1), features(900, 2), subsets=50, subset_size=30).mean > 0.01


def test_kid_is_the_golden_figure_of_torch_fidelity():
  found = kernels.kid(features(700, 1), features(900, 2), subsets=10, subset_size=300)
  assert found == pytest.approx(GOLDEN_KID, abs=1e-12)
  assert kernels.kid(features(700, 1), features(900, 2), 10, 300, seed=1).mean != found.mean


@pytest.mark.parametrize('dtype, near', [(np.float64, 1e-12), (np.float32, 1e-6)])
def test_kid_is_torch_fidelitys(dtype, near):
  pytest.importorskip('torch_fidelity')
  import torch
  from torch_fidelity import metric_kid
  x, y = features(700, 1).astype(dtype), features(900, 2).astype(dtype)
  theirs = metric_kid.kid_features_to_metric(
    torch.from_numpy(x), torch.from_numpy(y), kid_subsets=10, kid_subset_size=300, rng_seed=2020,
    kid_kernel='poly', kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None,
    kid_kernel_poly_coef0=1, verbose=False)
  assert kernels.kid(x, y, 10, 300) == pytest.approx(tuple(theirs.values()), abs=near)


def test_too_few_rows_for_a_subset_are_a_clear_error():
  with pytest.raises(UserError, match='subsets of 1,000 .* 700 generated and 900 real'):
    kernels.kid(features(700, 1), features(900, 2))
  with pytest.raises(UserError, match='not 3 of 1'):
    kernels.kid(features(20, 1), features(20, 2), 3, 1)
  with pytest.raises(UserError, match='64 and 32'):
    kernels.kid(features(20, 1), features(20, 2, 32), 3, 10)


def test_cmmd_is_the_mean_over_pairs(monkeypatch):
  x, y = features(23, 1, 16), features(31, 2, 16)
  u, v = (a / np.linalg.norm(a.astype(float), axis=1, keepdims=True) for a in (x, y))
  k = lambda a, b: np.exp(-((a[:, None] - b) ** 2).sum(-1) / 200).mean()  # noqa: E731
  exact = 1000 * (k(u, u) + k(v, v) - 2 * k(u, v))
  assert kernels.cmmd(x, y) == pytest.approx(exact, abs=1e-10)
  monkeypatch.setattr(kernels, 'BLOCK', 7)  # blocks that do not divide the rows
  assert kernels.cmmd(x, y) == pytest.approx(exact, abs=1e-10)
  assert kernels.cmmd(y, x) == pytest.approx(exact, abs=1e-10)


def test_cmmd_by_hand():
  # Two opposite points: squared distance 4, so 2 - 2 exp(-4 / 200).
  found = kernels.cmmd(np.array([[1.0, 0]]), np.array([[-3.0, 0]]))
  assert found == pytest.approx(1000 * (2 - 2 * np.exp(-0.02)), rel=1e-12)
  assert kernels.cmmd(features(50, 1), features(50, 1)) == pytest.approx(0, abs=1e-10)


def test_the_bias_of_cmmd_is_bounded_as_documented():
  x, y = (np.random.RandomState(s).randn(200, 64) for s in (0, 1))
  assert 0 < kernels.cmmd(x, y) < 1000 / 100 * (2 / 200)


def test_cmmd_is_the_golden_figure_of_the_public_reference():
  assert kernels.cmmd(features(700, 1), features(900, 2)) == pytest.approx(GOLDEN_CMMD, abs=1e-9)


def test_cmmd_is_that_of_the_public_package():
  calculation = pytest.importorskip('clip_mmd.calculation')
  x, y = features(300, 1), features(200, 2)
  unit = [a.astype(float) / np.linalg.norm(a.astype(float), axis=1, keepdims=True) for a in (x, y)]
  assert kernels.cmmd(x, y) == pytest.approx(float(calculation.mmd(*unit)), abs=1e-9)


def test_a_row_of_zeros_or_nan_has_no_direction():
  x = features(20, 1)
  x[3:5] = 0
  with pytest.raises(UserError, match='2 of 20 .* all zero'):
    kernels.cmmd(x, features(20, 2))
  x[3] = np.nan
  with pytest.raises(UserError, match='1 of 20 rows'):
    kernels.cmmd(x, features(20, 2))


@pytest.mark.parametrize('generated, known', [(40, False), (41, True)])
def test_subsets_that_are_all_images_have_no_spread(monkeypatch, generated, known):
  monkeypatch.setattr(scores, 'KID_SUBSET', 40)
  collected = [types.SimpleNamespace(pool=features(n, n), logits=features(n, n))
               for n in (generated, 50)]
  found = {x.metric: x.spread for x in scores.distances(*collected, protocols.find('offline'))}
  assert (found['KID-lite0'] is not None) is known
