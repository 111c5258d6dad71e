"""The Inception Score by hand, against a slow sum and against torch-fidelity."""
import numpy as np
import pytest

from xmc_jax.evals.inception_score import inception_score
from xmc_jax.types import UserError

# torch-fidelity 0.4.0 of `logits()`, in 10 splits and in 1.
GOLDEN = {10: (4.520854121653764, 0.3099713542924892), 1: (4.651006548150053, 0.0)}


def logits(n=703, k=20, seed=3):
  mix = np.random.RandomState(99).randn(k, k) / np.sqrt(k)
  x = np.random.RandomState(seed).randn(n, k) @ mix + 0.1 * seed
  return np.maximum(x, 0).astype(np.float32) * 3


def test_images_of_all_classes_score_the_number_of_classes_and_of_one_score_one():
  sure = np.tile(np.eye(5) * 100, (40, 1))
  assert inception_score(sure, 1) == pytest.approx((5, 0))
  assert inception_score(np.tile(sure[:1], (200, 1))) == pytest.approx((1, 0))
  assert inception_score(np.zeros((200, 5))) == pytest.approx((1, 0))


def test_a_class_that_no_image_has_adds_nothing():
  sure = np.tile(np.eye(5) * 100, (40, 1))
  never = np.concatenate([sure, np.full((200, 3), -1e5)], axis=1)
  assert inception_score(never, 1) == pytest.approx((5, 0))


def test_one_split_is_the_sum_over_images_and_classes():
  x = logits(50).astype(float)
  p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
  q = p.mean(0)
  slow = np.exp(sum(p[i, c] * np.log(p[i, c] / q[c]) for i in range(50) for c in range(20)) / 50)
  assert inception_score(x, 1).mean == pytest.approx(slow, rel=1e-12)


@pytest.mark.parametrize('splits', GOLDEN)
def test_it_is_the_golden_figure_of_torch_fidelity(splits):
  assert inception_score(logits(), splits) == pytest.approx(GOLDEN[splits], abs=1e-9)


@pytest.mark.parametrize('splits', [10, 3, 1])
def test_it_is_torch_fidelitys(splits):
  pytest.importorskip('torch_fidelity')
  import torch
  from torch_fidelity import metric_isc
  theirs = metric_isc.isc_features_to_metric(torch.from_numpy(logits()), splits, True, 2020)
  assert inception_score(logits(), splits) == pytest.approx(tuple(theirs.values()), abs=1e-9)


def test_more_splits_know_the_classes_worse():
  x = logits(300)
  assert inception_score(x, 1).mean > inception_score(x, 10).mean > inception_score(x, 100).mean


def test_wrong_splits_and_logits_are_errors():
  with pytest.raises(UserError, match='7 images cannot be taken in 10 splits'):
    inception_score(logits(7))
  with pytest.raises(UserError, match='0 splits'):
    inception_score(logits(7), 0)
  with pytest.raises(UserError, match='1 of 2 rows of logits'):
    inception_score(np.array([[0, np.nan], [1, 2]]), 1)
  with pytest.raises(ValueError, match='logits must have'):
    inception_score(np.zeros(5))
