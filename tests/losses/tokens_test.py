"""Token-wise contrast: by hand, and against loops in float64."""
import math

import jax
import jax.numpy as jnp
import numpy as np
import toys
from matching_test import on_device

from xmc_jax.losses import tokens
from xmc_jax.losses.matching import word_scores


def slow_token_losses(regions, words, mask):
  """The contrast of each word with the others of its caption, one number at a time."""
  unit = lambda x: x / math.sqrt(float(x @ x))
  losses = np.zeros(mask.shape)
  for i, image in enumerate(regions.astype(float)):
    caption = words[i][mask[i]].astype(float)
    caption = [unit(w - caption.mean(0)) for w in caption]
    image = [unit(r) for r in image]
    for t, word in enumerate(caption):
      weights = [math.exp(10 * float(r @ word)) for r in image]
      context = unit(sum(w * r for w, r in zip(weights, image)) / sum(weights))
      shares = [math.exp(10 * float(context @ other)) for other in caption]
      losses[i, t] = -math.log(shares[t] / sum(shares))
  return losses


def captions(b=4, n=5, t=4, e=6, seed=0):
  """Regions, words and a mask with captions of 2 to t words; one word alone is its own mean."""
  mask = np.arange(t) < 2 + np.arange(b)[:, None] % (t - 1)
  return toys.normal(seed, b, n, e), toys.normal(seed + 1, b, t, e), mask


def test_token_losses_are_the_loops():
  regions, words, mask = captions()
  wanted = slow_token_losses(regions, words, mask)
  found = tokens.token_losses(*on_device(regions, words, mask))
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(tokens.token_loss(*on_device(regions, words, mask)),
                             wanted.sum() / mask.sum(), rtol=1e-4)


def test_words_count_as_far_as_the_real_image_shows_them():
  regions, words, mask = captions()
  real = toys.normal(9, *regions.shape)
  shown = np.exp(-slow_token_losses(real, words, mask)) * mask
  wanted = np.sum(shown * slow_token_losses(regions, words, mask)) / shown.sum()
  loss = lambda *regions: tokens.shown_token_loss(*regions, *on_device(words, mask))
  np.testing.assert_allclose(loss(jnp.array(regions), jnp.array(real)), wanted, rtol=1e-4)
  of_fake, of_real = jax.grad(loss, (0, 1))(jnp.array(regions), jnp.array(real))
  assert (np.abs(of_fake).sum((1, 2)) > 0).all() and not of_real.any()


def test_token_losses_by_hand_punish_a_blend_that_the_word_scores_reward():
  # Two opposite words. A region for each: the attention of a word is e^10 to e^-10, its context
  # its own region, the loss ln(1 + e^-20). Regions that show a bit of both: ln 2.
  words = jnp.array([[[1.0, 0, 1], [-1.0, 0, 1]]])
  mask = jnp.ones((1, 2), bool)
  apart = jnp.array([[[1.0, 0, 0], [-1.0, 0, 0]]])
  blend = jnp.array([[[0.0, 0, 1], [0, 0, 1]]])
  np.testing.assert_allclose(tokens.token_losses(apart, words, mask), [[0, 0]], atol=1e-6)
  np.testing.assert_allclose(tokens.token_losses(blend, words, mask), [[math.log(2)] * 2],
                             rtol=1e-6)
  rewarded, other = (word_scores(regions, words, mask) for regions in (blend, apart))
  assert (rewarded >= other).all()


def test_tokens_that_are_masked_or_without_company_do_no_harm():
  regions, words, mask = captions()
  other = np.where(mask[..., None], words, 100 * toys.normal(7, *words.shape))
  losses = lambda w, mask: tokens.token_losses(*on_device(regions, w, mask))
  np.testing.assert_array_equal(losses(words, mask), losses(other, mask))
  one = np.arange(4) < np.array([1, 1, 2, 3])[:, None]
  grad = jax.grad(lambda w: tokens.token_loss(jnp.array(regions), w, jnp.array(one)))
  assert np.isfinite(grad(jnp.array(words))).all() and (losses(words, one)[:2] == 0).all()
