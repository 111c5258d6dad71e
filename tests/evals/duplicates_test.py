"""Near duplicates: planted copies are found, and independent draws are not."""
import dataclasses
import types

import numpy as np
import pytest

from xmc_jax.evals import duplicates, extra_metrics, image_sets, kernels
from xmc_jax.types import UserError


def draw(n, seed, d=16):
  return np.random.RandomState(seed).randn(n, d)


TRAINING, HELDOUT = draw(900, 0), draw(3000, 1)


def test_independent_draws_are_near_as_often_as_the_quantile():
  for quantile in (0.01, 0.1):
    found = duplicates.near_duplicates(draw(4000, 2), TRAINING, HELDOUT, quantile)
    spread = np.sqrt(quantile / 4000 + quantile / 3000)
    assert abs(found.share - quantile) < 4 * spread
    assert abs(found.ratio - 1) < 0.05


def test_planted_copies_are_found_with_their_training_rows():
  generated = draw(400, 2)
  rows, sources = np.array([5, 70, 399]), np.array([899, 0, 333])
  generated[rows] = TRAINING[sources] * [[2], [0.5], [1]] + 1e-5 * draw(3, 3)
  found = duplicates.near_duplicates(generated, TRAINING, HELDOUT, worst=3)
  assert set(found.worst) == set(rows)
  np.testing.assert_array_equal(found.nearest[rows], sources)
  assert (found.distance[rows] < 1e-8).all()
  assert (np.diff(found.distance[found.worst]) >= 0).all()
  clean = duplicates.near_duplicates(draw(400, 2), TRAINING, HELDOUT)
  assert found.share >= clean.share + 2 / 400


def test_a_generator_that_only_copies_is_seen_at_once():
  found = duplicates.near_duplicates(TRAINING[:300], TRAINING, HELDOUT)
  assert found.share == 1 and found.ratio < 1e-10
  np.testing.assert_array_equal(found.nearest, np.arange(300))


def test_copies_are_copies_where_held_out_images_are_some_too():
  training, heldout = draw(3000, 7, d=64), draw(198, 8, d=64)
  heldout[:5] = training[:5]
  found = duplicates.near_duplicates(training[:990], training, heldout)
  assert found.share == 1 and found.threshold == 0


@pytest.mark.parametrize('block', [2048, 7])
def test_distances_are_those_of_every_pair(monkeypatch, block):
  monkeypatch.setattr(duplicates, 'BLOCK', block)
  generated, training = draw(23, 4), draw(31, 5)
  found = duplicates.near_duplicates(generated, training, draw(100, 6))
  slow = np.array([[1 - g @ t / np.linalg.norm(g) / np.linalg.norm(t) for t in training]
                   for g in generated])
  np.testing.assert_allclose(found.distance, slow.min(1), atol=1e-12)
  np.testing.assert_array_equal(found.nearest, slow.argmin(1))
  assert len(found.worst) == 16 and found.worst[0] == slow.min(1).argmin()


def test_the_threshold_is_the_quantile_of_held_out_distances():
  found = duplicates.near_duplicates(draw(30, 4), TRAINING, HELDOUT)
  usual = duplicates.near_duplicates(HELDOUT, TRAINING, HELDOUT)
  assert found.threshold == usual.threshold == np.quantile(usual.distance, 0.01)
  assert usual.share == 0.01 and usual.ratio == 1


def test_wrong_arguments_are_clear_errors():
  with pytest.raises(UserError, match='at least 100 held-out real images, and there are 99'):
    duplicates.near_duplicates(draw(5, 1), TRAINING, HELDOUT[:99])
  with pytest.raises(UserError, match='between 0 and 1'):
    duplicates.near_duplicates(draw(5, 1), TRAINING, HELDOUT, 0)
  with pytest.raises(UserError, match=r'8 \(generated\), 16 \(training\)'):
    duplicates.near_duplicates(draw(5, 1, 8), TRAINING, HELDOUT)
  with pytest.raises(UserError, match='no training features'):
    duplicates.near_duplicates(draw(5, 1), TRAINING[:0], HELDOUT)
  with pytest.raises(UserError, match='NaN'):
    duplicates.near_duplicates(draw(5, 1) * np.nan, TRAINING, HELDOUT)
  with pytest.raises(UserError, match='all zero'):
    duplicates.near_duplicates(draw(5, 1) * 0, TRAINING, HELDOUT)
  with pytest.raises(ValueError, match=r'\[n, d\]'):
    duplicates.near_duplicates(draw(5, 1)[0], TRAINING, HELDOUT)


class Split:
  name = 'toy'

  def __len__(self):
    return len(HELDOUT)


def test_the_metric_compares_with_held_out_images_whatever_the_reference(monkeypatch):
  """Were it the reference, which may be the training images, no distance would be too small."""
  pools = {'toy/train': TRAINING, 'toy/heldout': HELDOUT}
  monkeypatch.setattr(extra_metrics.feature_cache, 'features', lambda images, *_: (
      types.SimpleNamespace(pool=pools[images.name]), f'sha256 of {images.name}'))
  train = image_sets.SplitImages(Split(), 'train')
  given = dict.fromkeys(field.name for field in dataclasses.fields(extra_metrics.EvalContext))
  given |= dict(heldout=Split(), reference=train, train=lambda: train,
                protocol=types.SimpleNamespace(name='toy'))
  metric = extra_metrics.EXTRA_METRICS['duplicates'](extra_metrics.EvalContext(**given))
  copies = {'toy': types.SimpleNamespace(pool=TRAINING[:100] + np.float32(1e-3))}
  assert metric.score(copies)[0].value == 1
  assert metric.facts == {'reference': 'toy/heldout', 'reals': len(HELDOUT),
                          'reference_sha256': 'sha256 of toy/heldout'}


def test_cmmd_compares_with_the_reference(monkeypatch):
  reals = {'train': TRAINING[:50], 'heldout': HELDOUT[:50]}
  extractor = types.SimpleNamespace(name='clip', sha256='')
  monkeypatch.setattr(extra_metrics.embeddings, 'of_clip',
                      lambda *_, **__: types.SimpleNamespace(extractor=extractor))
  monkeypatch.setattr(extra_metrics, 'FeatureCollector',
                      lambda *_: lambda images: {'clip': reals[images]})
  given = dict.fromkeys(field.name for field in dataclasses.fields(extra_metrics.EvalContext))
  for name, real in reals.items():
    context = extra_metrics.EvalContext(**given | {'reference': name})
    found = extra_metrics.EXTRA_METRICS['cmmd'](context).score({'clip': TRAINING[50:90]})
    assert found[0].value == kernels.cmmd(TRAINING[50:90], real)
