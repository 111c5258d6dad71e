"""Precision, recall, density and coverage against slow twins, toys and the public packages."""
import numpy as np
import pytest

from xmc_jax.evals import manifold
from xmc_jax.types import UserError

# torch-fidelity 0.4.0 (precision, recall; k = 3) and prdc 0.2 (density, coverage; k = 5) of
# `features(700, 1)` as generated and `features(900, 2)` as real.
GOLDEN_PR = (0.9528571, 0.8855556)
GOLDEN_DC = (1.066857142857143, 0.9533333333333334)


def features(n, seed, d=8):
  mix = np.random.RandomState(99).randn(64, 64) / 8
  x = np.random.RandomState(seed).randn(n, 64) @ mix + 0.1 * seed
  return np.maximum(x, 0).astype(np.float32)[:, :d]


def slow_radius(rows, i, k):
  return sorted(np.linalg.norm(rows[i] - rows[j]) for j in range(len(rows)) if j != i)[k - 1]


def slow(generated, real, k):
  """(precision, recall, density, coverage), one pair after the other."""
  of_real = [slow_radius(real, i, k) for i in range(len(real))]
  of_generated = [slow_radius(generated, i, k) for i in range(len(generated))]
  near = [[np.linalg.norm(g - r) for r in real] for g in generated]
  in_real = [[near[i][j] <= of_real[j] for j in range(len(real))] for i in range(len(generated))]
  precision = np.mean([any(row) for row in in_real])
  density = np.mean([sum(row) / k for row in in_real])
  coverage = np.mean([any(row[j] for row in in_real) for j in range(len(real))])
  recall = np.mean([any(near[i][j] <= of_generated[i] for i in range(len(generated)))
                    for j in range(len(real))])
  return precision, recall, density, coverage


@pytest.mark.parametrize('k', [1, 3, 5])
@pytest.mark.parametrize('entries', [2 ** 24, 100])
def test_all_four_are_the_slow_twins(monkeypatch, k, entries):
  monkeypatch.setattr(manifold, 'ENTRIES', entries)  # blocks of one or two rows
  generated, real = features(40, 1).astype(float), features(55, 2).astype(float)
  found = (*manifold.precision_recall(generated, real, k),
           *manifold.density_coverage(generated, real, k))
  assert found == pytest.approx(slow(generated, real, k), abs=1e-12)
  assert len(set(found)) == 4


def test_a_generator_of_one_kind_is_precise_and_recalls_little():
  r = np.random.RandomState(0)
  real = np.concatenate([r.randn(100, 2), r.randn(100, 2) + 100])
  one = r.randn(100, 2)
  found = manifold.precision_recall(one, real)
  assert found.precision > 0.9 and 0.3 < found.recall <= 0.5
  swapped = manifold.precision_recall(real, one)
  assert (swapped.precision, swapped.recall) == (found.recall, found.precision)
  assert 0.3 < manifold.density_coverage(one, real).coverage <= 0.5
  wide = manifold.precision_recall(r.uniform(-300, 300, (200, 2)), one)
  assert wide.precision < 0.1 < 0.9 < wide.recall


def test_a_line_of_points_by_hand():
  real = np.array([[0.0], [1], [2], [10]])  # radii for k = 1: 1, 1, 1, 8
  generated = np.array([[3.0], [18], [19], [-5]])  # radii for k = 1: 8, 1, 1, 8
  # 3 is in the balls of 2 (on the rim) and 10, 18 in that of 10 (on the rim), the others in none.
  assert manifold.precision_recall(generated, real, 1) == (0.5, 1.0)
  assert manifold.density_coverage(generated, real, 1) == (0.75, 0.5)


def test_a_set_and_itself_is_perfect_and_distant_sets_share_nothing():
  x = features(60, 1)
  assert manifold.precision_recall(x, x) == (1, 1)
  assert manifold.density_coverage(x, x).coverage == 1
  assert manifold.precision_recall(x, x + 100) == (0, 0)
  assert manifold.density_coverage(x, x + 100) == (0, 0)


def test_density_of_real_images_is_about_one():
  real = features(1600, 1)
  assert abs(manifold.density_coverage(real[:700], real[700:]).density - 1) < 0.1


def test_the_golden_figures_of_torch_fidelity_and_prdc():
  generated, real = features(700, 1), features(900, 2)
  assert manifold.precision_recall(generated, real) == pytest.approx(GOLDEN_PR, abs=1e-6)
  assert manifold.density_coverage(generated, real) == pytest.approx(GOLDEN_DC, abs=1e-12)


def test_precision_and_recall_are_torch_fidelitys():
  pytest.importorskip('torch_fidelity')
  import torch
  from torch_fidelity import metric_prc
  generated, real = features(300, 4), features(350, 5)
  theirs = metric_prc.prc_features_to_metric(
    torch.from_numpy(generated), torch.from_numpy(real), prc_neighborhood=3, prc_batch_size=100,
    save_cpu_ram=False, verbose=False)
  assert manifold.precision_recall(generated, real) == pytest.approx(
    (theirs['precision'], theirs['recall']), abs=1e-6)


def test_all_four_are_those_of_prdc():
  prdc = pytest.importorskip('prdc')
  generated, real = features(300, 4), features(350, 5)
  theirs = prdc.compute_prdc(real, generated, 5)
  found = (*manifold.precision_recall(generated, real, 5),
           *manifold.density_coverage(generated, real, 5))
  assert found == pytest.approx(
    [theirs[name] for name in ('precision', 'recall', 'density', 'coverage')], abs=1e-9)


@pytest.mark.parametrize('measure', [manifold.precision_recall, manifold.density_coverage])
def test_too_few_rows_are_a_clear_error(measure):
  with pytest.raises(UserError, match='more than 3 images .* 3 generated and 20 real'):
    measure(features(3, 1), features(20, 2), 3)
  with pytest.raises(UserError, match='NaN'):
    measure(features(20, 1) * np.nan, features(20, 2), 3)
  with pytest.raises(UserError, match='8 and 4 numbers'):
    measure(features(20, 1), features(20, 2, 4), 3)
