"""R-precision by hand, its rules for the other captions, and its folds."""
import numpy as np
import pytest

from xmc_jax.evals import retrieval
from xmc_jax.types import UserError


def embeddings(n, d=32, seed=0):
  return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_matching_embeddings_are_all_hits_and_opposite_ones_all_misses():
  own = embeddings(40) / np.linalg.norm(embeddings(40), axis=1, keepdims=True)
  assert retrieval.r_precision(own, own) == 1.0
  assert retrieval.r_precision(-own, own) == 0.0


def test_unrelated_embeddings_are_at_chance():
  for group in (2, 16):
    share = retrieval.r_precision(embeddings(2000), embeddings(2000, seed=1), candidates=group)
    assert abs(share - 1 / group) < 4 * np.sqrt(1 / group / 2000)


def test_two_rows_by_hand():
  texts = np.eye(2)
  images = np.array([[2.0, 1.0], [3.0, 1.0]])  # the second is nearer to the first's caption
  assert retrieval.r_precision(images, texts, candidates=2) == 0.5


def test_a_tie_is_a_miss():
  assert retrieval.r_precision(np.ones((20, 4)), np.ones((20, 4))) == 0.0


def test_an_image_that_is_not_a_number_is_a_miss():
  images = np.eye(20)
  images[3] = np.nan
  assert retrieval.r_precision(images, np.eye(20)) == 19 / 20


def test_rows_of_the_same_caption_are_not_compared():
  own = np.repeat(np.eye(20), 3, axis=0)
  captions = np.repeat([f'caption {i}' for i in range(20)], 3)
  assert retrieval.r_precision(own, own, captions=captions) == 1.0
  assert retrieval.r_precision(own, own) < 0.7


def test_the_seed_fixes_the_choice():
  a, b = embeddings(100), embeddings(100) + 2 * embeddings(100, seed=1)
  first = retrieval.r_precision(a, b, seed=5)
  assert first == retrieval.r_precision(a, b, seed=5)
  assert {retrieval.r_precision(a, b, seed=s) for s in range(5)} != {first}


def test_too_few_captions_are_a_clear_error():
  with pytest.raises(UserError, match='only 14 of 15'):
    retrieval.r_precision(np.eye(15), np.eye(15))
  with pytest.raises(UserError, match='only 1 of 20'):
    retrieval.r_precision(np.eye(20), np.eye(20), captions=['a', 'b'] * 10)
  with pytest.raises(UserError, match='at least 2'):
    retrieval.r_precision(np.eye(20), np.eye(20), candidates=1)
  with pytest.raises(ValueError, match='same (shape|length)'):
    retrieval.r_precision(np.eye(20), np.eye(20)[:, :4])


def test_choices_are_those_of_earlier_versions():
  a, b = embeddings(400), embeddings(400) + 2 * embeddings(400, seed=1)
  found = [retrieval.r_precision(a, b, group, seed) for group, seed in ((16, 0), (16, 5), (100, 0))]
  assert found == [0.7475, 0.7625, 0.5025]
  captions = [f'c{i // 4}' for i in range(400)]
  assert retrieval.r_precision(a, b, seed=1, captions=captions) == 0.76


@pytest.mark.parametrize('d', [77, 255, 301])
def test_equal_texts_tie_whatever_their_place_in_memory(d):
  texts = np.repeat(embeddings(1, d), 40, axis=0)
  assert retrieval.r_precision(embeddings(40, d, seed=1), texts, candidates=18) == 0.0


def test_hits_are_per_image():
  images = np.eye(20)
  images[[3, 7]] = -1
  hits = retrieval.r_precision_hits(images, np.eye(20))
  np.testing.assert_array_equal(np.flatnonzero(~hits), [3, 7])
  assert retrieval.r_precision(images, np.eye(20)) == 0.9


def test_others_of_the_same_class_are_avoided():
  # One hundred and fifty classes of two rows with the same embedding: DM-GAN's protocol.
  own = np.repeat(np.eye(150), 2, axis=0)
  classes = np.repeat(np.arange(150), 2)
  assert retrieval.r_precision(own, own, candidates=100, avoid=classes) == 1.0
  names = [f'class {c}' for c in classes]
  assert retrieval.r_precision(own, own, candidates=100, avoid=names) == 1.0
  assert retrieval.r_precision(own, own, candidates=100) < 0.9


def test_captions_and_classes_are_both_avoided():
  # Row i differs from rows with another caption and class, but not from rows with only one of both.
  captions, classes = np.arange(60) % 6, np.arange(60) // 6
  own = np.concatenate([np.eye(6)[captions], np.eye(10)[classes]], axis=1)
  blind = np.concatenate([np.eye(6)[captions], np.zeros((60, 10))], axis=1)
  assert not retrieval.r_precision(blind, own, candidates=50, avoid=classes)
  assert retrieval.r_precision(blind, own, candidates=6, captions=[f'{c}' for c in captions],
                               avoid=classes) == 1.0


def test_no_caption_is_compared_twice():
  # 500 rows of ten captions, unrelated images: with repeated captions there would be more hits.
  captions = [f'{i % 10}' for i in range(500)]
  texts = np.tile(embeddings(10), (50, 1))
  shares = [retrieval.r_precision(embeddings(500, seed=k), texts, 10, captions=captions)
            for k in range(1, 9)]
  assert abs(np.mean(shares) - 0.1) < 4 * np.sqrt(0.1 / 4000)


def test_a_check_counts_captions_as_a_loop_does():
  random = np.random.default_rng(0)
  for _ in range(200):
    n = random.integers(1, 12)
    captions, classes = (random.integers(0, random.integers(1, 8), n) for _ in range(2))
    fewest = min(len({captions[j] for j in range(n)
                      if captions[j] != captions[i] and classes[j] != classes[i]})
                 for i in range(n))
    for candidates in (2, 3, 5):
      try:
        retrieval.check(n, candidates, captions=captions.astype(str), avoid=classes)
        enough = True
      except UserError:
        enough = False
      assert enough == (fewest >= candidates - 1)


def test_folds_are_runs_of_rows_in_order():
  hits = np.repeat([True, False], [30, 70])
  mean, std = retrieval.r_precision_folds(hits)
  assert (mean, std) == pytest.approx((0.3, np.sqrt(0.21)))
  assert retrieval.r_precision_folds(hits, 1) == pytest.approx((0.3, 0))
  assert retrieval.r_precision_folds(hits[:31], 10).mean == pytest.approx(29 / 30, abs=0.02)


def test_wrong_folds_and_rows_are_errors():
  with pytest.raises(UserError, match='7 images cannot be divided into 10 folds'):
    retrieval.r_precision_folds(np.ones(7, bool))
  with pytest.raises(ValueError, match='must have shape'):
    retrieval.r_precision_folds(np.ones((7, 2), bool))
  with pytest.raises(ValueError, match='same (shape|length)'):
    retrieval.r_precision(np.eye(20), np.eye(20), avoid=[1, 2])
  with pytest.raises(UserError, match='at least one'):
    retrieval.r_precision(np.eye(20)[:0], np.eye(20)[:0])
