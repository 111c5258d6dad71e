"""R-precision by hand, and the judge that comes with the project on real held-out pictures."""
import numpy as np
import pytest

from xmc_jax.data import source
from xmc_jax.encoders import bert
from xmc_jax.evals import alignment
from xmc_jax.types import UserError

# R-precision among 16 on 150 real held-out pictures; chance is 0.0625.
LEAST = {'emoji': 0.5, 'emoji_scenes': 0.93}


def codes(n, d=32, seed=0):
  return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_matching_codes_are_all_hits_and_opposite_ones_all_misses():
  own = codes(40) / np.linalg.norm(codes(40), axis=1, keepdims=True)
  assert alignment.r_precision(own, own) == 1.0
  assert alignment.r_precision(-own, own) == 0.0


def test_unrelated_codes_score_one_in_among():
  for among in (2, 16):
    share = alignment.r_precision(codes(2000), codes(2000, seed=1), among=among)
    assert abs(share - 1 / among) < 4 * np.sqrt(1 / among / 2000)


def test_two_rows_by_hand():
  texts = np.eye(2)
  pictures = np.array([[2.0, 1.0], [3.0, 1.0]])  # the second is nearer to the first's caption
  assert alignment.r_precision(pictures, texts, among=2) == 0.5


def test_a_tie_is_a_miss():
  assert alignment.r_precision(np.ones((20, 4)), np.ones((20, 4))) == 0.0


def test_a_picture_that_is_not_a_number_is_a_miss():
  pictures = np.eye(20)
  pictures[3] = np.nan
  assert alignment.r_precision(pictures, np.eye(20)) == 19 / 20


def test_rows_of_the_same_caption_are_not_compared():
  own = np.repeat(np.eye(20), 3, axis=0)
  captions = np.repeat([f'caption {i}' for i in range(20)], 3)
  assert alignment.r_precision(own, own, captions=captions) == 1.0
  assert alignment.r_precision(own, own) < 0.7


def test_the_seed_fixes_the_draw():
  a, b = codes(100), codes(100) + 2 * codes(100, seed=1)
  first = alignment.r_precision(a, b, seed=5)
  assert first == alignment.r_precision(a, b, seed=5)
  assert {alignment.r_precision(a, b, seed=s) for s in range(5)} != {first}


def test_too_few_captions_are_a_clear_error():
  with pytest.raises(UserError, match='of 15 rows only 14'):
    alignment.r_precision(np.eye(15), np.eye(15))
  with pytest.raises(UserError, match='of 20 rows only 10'):
    alignment.r_precision(np.eye(20), np.eye(20), captions=['a', 'b'] * 10)
  with pytest.raises(UserError, match='at least 2'):
    alignment.r_precision(np.eye(20), np.eye(20), among=1)
  with pytest.raises(ValueError, match='same rows'):
    alignment.r_precision(np.eye(20), np.eye(20)[:, :4])


@pytest.fixture(name='minilm')
def _minilm():
  try:
    bert.find(bert.MINILM)
  except UserError as error:
    pytest.skip(str(error))


@pytest.mark.parametrize('name', LEAST)
def test_the_judge_knows_real_heldout_pictures(minilm, name):
  data = source.load(name, 'heldout', 64)
  rows = np.linspace(0, len(data) - 1, 150).astype(int)
  images = np.stack([data.image(i) for i in rows]) / np.float32(255)
  captions = [data.captions(i)[0] for i in rows]
  assert alignment.alignment(images, captions, name) >= LEAST[name]
  shuffled = np.random.default_rng(0).permutation(150)
  assert alignment.alignment(images[shuffled], captions, name) <= 0.15


def test_pictures_of_another_size_are_resized(minilm):
  small = np.random.default_rng(0).uniform(size=(3, 16, 16, 3)).astype(np.float32)
  large = small.repeat(8, 1).repeat(8, 2)
  a, b = alignment.picture_codes(small, 'emoji'), alignment.picture_codes(large, 'emoji')
  assert a.shape == (3, 128)
  np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, atol=1e-5)
  assert (np.sum(a * b, 1) > 0.8).all()


def test_codes_do_not_depend_on_the_other_rows(minilm):
  captions = ['a red apple', 'two dogs and a cat on a green field under the sun', 'a house']
  together = alignment.caption_codes(captions, 'emoji')
  alone = np.concatenate([alignment.caption_codes([c], 'emoji') for c in captions])
  np.testing.assert_allclose(together, alone, atol=1e-5)
