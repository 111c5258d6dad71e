"""Word-region matching: by hand, against loops in float64, and the fast form against the plain."""
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from contrastive_test import slow_diagonal_cross_entropy

from xmc_jax.losses import matching


def slow_word_scores(regions, words, mask):
  """The scores as the paper's section on word-region contrast writes them, one number at a time."""
  unit = lambda x: x / math.sqrt(float(x @ x))
  scores = np.zeros((len(regions), len(words)))
  for i, image in enumerate(regions.astype(float)):
    image = [unit(r) for r in image]
    for j, caption in enumerate(words.astype(float)):
      total = 0.0
      for t, word in enumerate(caption):
        if mask[j, t]:
          weights = [math.exp(5 * float(r @ unit(word))) for r in image]
          context = sum(w * r for w, r in zip(weights, image)) / sum(weights)
          total += math.exp(5 * float(unit(context) @ unit(word)))
      scores[i, j] = 50 / 5 * math.log(total)
  return scores


def example(b=5, n=4, t=3, e=6, seed=0):
  """Regions, words and a mask with captions of 1 to t words."""
  mask = np.arange(t) < 1 + np.arange(b)[:, None] % t
  return toys.normal(seed, b, n, e), toys.normal(seed + 1, b, t, e), mask


def on_device(*xs):
  return [jnp.array(x) for x in xs]


FORMS = pytest.mark.parametrize('scores', [matching.word_scores, matching.word_scores_reference])


@FORMS
def test_one_region_and_one_word_by_hand(scores):
  # A single region is its own context: score = 50 * cosine.        50  48
  # Regions and words both (1, 0), (0.96, 0.28):                    48  50
  # each of the four cross-entropies is ln(1 + e^-2) = 0.126928; their sum over two rows 0.253856
  x = jnp.array([[[1.0, 0]], [[0.96, 0.28]]])
  np.testing.assert_allclose(scores(x, x, jnp.ones((2, 1), bool)), [[50, 48], [48, 50]], rtol=1e-6)
  loss = matching.word_loss(x, x, jnp.ones((2, 1), bool), scores)
  np.testing.assert_allclose(loss, 0.253856, rtol=1e-4)


@FORMS
def test_two_words_by_hand(scores):
  # One region (1, 0); words with cosines 1 and 0.6: 10 ln(e^5 + e^3) = 50 + 10 ln(1 + e^-2)
  regions, words = jnp.array([[[2.0, 0]]]), jnp.array([[[3.0, 0], [3, 4]]])
  np.testing.assert_allclose(scores(regions, words, jnp.ones((1, 2), bool)), [[51.26928]],
                             rtol=1e-6)


@FORMS
def test_two_regions_by_hand(scores):
  # Regions (1, 0), (0, 1); word (0.6, 0.8). Attention is softmax(3, 4) = 0.268941, 0.731059, which
  # is the context; its cosine with the word is 0.746212 / 0.778959 = 0.957961.  50 * that = 47.898
  regions, words = jnp.array([[[1.0, 0], [0, 5]]]), jnp.array([[[3.0, 4]]])
  np.testing.assert_allclose(scores(regions, words, jnp.ones((1, 1), bool)), [[47.89806]],
                             rtol=1e-5)


@FORMS
@pytest.mark.parametrize('b, n, t, e', [(2, 1, 1, 2), (3, 4, 2, 5), (5, 9, 4, 3)])
def test_scores_and_loss_are_the_loops(scores, b, n, t, e):
  sample = example(b, n, t, e)
  slow = slow_word_scores(*sample)
  np.testing.assert_allclose(scores(*on_device(*sample)), slow, rtol=1e-5, atol=1e-4)
  np.testing.assert_allclose(matching.word_loss(*on_device(*sample), scores),
                             slow_diagonal_cross_entropy(slow), rtol=1e-4)


@pytest.mark.parametrize('b, chunk', [(2, 64), (6, 6), (6, 3), (6, 4), (7, 3), (8, 1)])
def test_fast_scores_and_gradients_are_the_plain_ones(b, chunk):
  regions, words, mask = on_device(*example(b))
  weights = jnp.array(toys.normal(9, b, b))      # another cotangent for every score

  def both(regions, words):
    run = lambda scores, **options: jax.vjp(
        lambda r, w: scores(r, w, mask, **options), regions, words)
    fast, pull_fast = run(matching.word_scores, chunk=chunk)
    plain, pull_plain = run(matching.word_scores_reference)
    return (fast, pull_fast(weights)), (plain, pull_plain(weights))

  fast, plain = jax.jit(both)(regions, words)
  for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(plain)):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-4)


@FORMS
def test_gradient_is_the_slope_of_the_loops(scores):
  regions, words, mask = example(3)
  weights, along = toys.normal(8, 3, 3), toys.normal(9, *regions.shape)
  value = lambda r: jnp.sum(scores(r, *on_device(words, mask)) * weights)
  moved = lambda s: slow_word_scores(regions + s * along.astype(float), words, mask)
  slow = lambda s: np.sum(moved(s) * weights)
  grad_norm_sq = (slow(1e-5) - slow(-1e-5)) / 2e-5
  np.testing.assert_allclose(
    np.sum(jax.grad(value)(jnp.array(regions)) * along), grad_norm_sq, rtol=1e-4
  )


@FORMS
def test_masked_words_have_no_influence(scores):
  regions, words, mask = example()
  other = np.where(mask[..., None], words, 100 * toys.normal(7, *words.shape))
  loss = lambda w: matching.word_loss(*on_device(regions, w, mask), scores)
  assert not mask.all() and loss(words) == loss(other)
  grad = jax.grad(lambda w: matching.word_loss(jnp.array(regions), w, jnp.array(mask), scores))
  assert (np.array(grad(jnp.array(words)))[~mask] == 0).all()
  assert (np.abs(grad(jnp.array(words))).sum(-1)[mask] > 0).all()


@FORMS
def test_order_of_rows_regions_and_words_does_not_matter(scores):
  regions, words, mask = example()
  loss = lambda *x: matching.word_loss(*on_device(*x), scores)
  rows = np.array([2, 0, 4, 1, 3])
  np.testing.assert_allclose(loss(regions[rows], words[rows], mask[rows]),
                             loss(regions, words, mask), rtol=1e-4)
  np.testing.assert_allclose(loss(regions[:, ::-1], words[:, ::-1], mask[:, ::-1]),
                             loss(regions, words, mask), rtol=1e-4)


@FORMS
@pytest.mark.parametrize('images', [1, 3])
def test_fewer_images_than_captions(scores, images):
  regions, words, mask = on_device(*example())
  np.testing.assert_allclose(scores(regions[:images], words, mask),
                             scores(regions, words, mask)[:images], rtol=1e-5)


@FORMS
def test_rows_are_images_and_columns_captions(scores):
  regions, words, mask = example()
  before = scores(*on_device(regions, words, mask))
  regions[1] = toys.normal(7, *regions[1].shape)
  changed = np.array(scores(*on_device(regions, words, mask)) != before)
  assert changed[1].all() and not np.delete(changed, 1, 0).any()


@FORMS
def test_bfloat16_is_scored_in_float32_and_zeros_do_not_break_it(scores):
  regions, words, mask = on_device(*example())
  assert scores(regions.astype(jnp.bfloat16), words, mask).dtype == jnp.float32
  grad = jax.grad(lambda r: matching.word_loss(r, words, mask, scores))(jnp.zeros_like(regions))
  assert np.isfinite(grad).all()


def test_the_true_caption_is_chosen_and_every_pair_judged():
  loss = matching.true_caption_loss
  np.testing.assert_allclose(loss(jnp.zeros((3, 4))), math.log(4) + 2 * math.log(2), rtol=1e-6)
  logits = 3 * toys.normal(0, 5, 4)
  wanted = [math.log(sum(math.exp(x) for x in row)) - row[0] + math.log(1 + math.exp(-row[0]))
            + sum(math.log(1 + math.exp(x)) for x in row[1:]) / 3 for row in logits.astype(float)]
  np.testing.assert_allclose(loss(jnp.array(logits)), np.mean(wanted), rtol=1e-5)
