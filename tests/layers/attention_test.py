"""Attention of regions over words, against loops in float64."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.attention import attend, tiled_mask, word_context

pytestmark = pytest.mark.usefixtures('strict')


def slow_word_context(regions, words, mask, gain):
  unit = lambda x: x / np.sqrt(x @ x)
  out = np.zeros(regions.shape)
  for i, (image, caption) in enumerate(zip(regions.astype(float), words.astype(float))):
    true = [unit(word) for t, word in enumerate(caption) if mask[i, t]]
    for n, region in enumerate(image):
      weights = [np.exp(gain * unit(region) @ word) for word in true]
      out[i, n] = sum(w * word for w, word in zip(weights, true)) / sum(weights)
  return out


def example(b=4, n=5, t=3, e=6):
  mask = np.arange(t) < 1 + np.arange(b)[:, None] % t
  return toys.normal(0, b, n, e), toys.normal(1, b, t, e), mask


def test_two_words_by_hand():
  # Region (1, 0), words (1, 0) and (0.6, 0.8), gain 5: softmax(5, 3) = 0.880797, 0.119203
  # context (0.880797 + 0.6 * 0.119203, 0.8 * 0.119203) = (0.952319, 0.095362)
  regions, words = jnp.array([[[7.0, 0]]]), jnp.array([[[2.0, 0], [3, 4]]])
  out = word_context(regions, words, jnp.ones((1, 2), bool), gain=5.0)
  np.testing.assert_allclose(out, [[[0.952319, 0.095362]]], rtol=1e-5)


@pytest.mark.parametrize('b, n, t, e', [(1, 1, 1, 2), (4, 5, 3, 6), (3, 16, 6, 4)])
@pytest.mark.parametrize('gain', [1.0, 15.0])
def test_context_is_the_loops(b, n, t, e, gain):
  sample = example(b, n, t, e)
  out = word_context(*map(jnp.array, sample), gain=gain)
  np.testing.assert_allclose(out, slow_word_context(*sample, gain), rtol=1e-4, atol=1e-5)


def test_gain_is_fifteen_by_default():
  sample = example()
  np.testing.assert_allclose(word_context(*map(jnp.array, sample)),
                             slow_word_context(*sample, 15.0), rtol=1e-4, atol=1e-5)


def test_padding_has_no_influence():
  regions, words, mask = map(jnp.array, example())
  other = jnp.where(mask[..., None], words, 100 * jnp.array(toys.normal(7, *words.shape)))
  np.testing.assert_array_equal(word_context(regions, words, mask),
                                word_context(regions, other, mask))
  grad = jax.grad(lambda w: jnp.sum(jnp.sin(word_context(regions, w, mask))))(words)
  assert not grad[~mask].any() and (jnp.abs(grad).sum(-1)[mask] > 0).all()


def test_bfloat16_is_attended_in_float32():
  regions, words, mask = map(jnp.array, example())
  small = regions.astype(jnp.bfloat16)
  out = word_context(small, words, mask)
  assert out.dtype == jnp.float32
  np.testing.assert_array_equal(out, word_context(small.astype(jnp.float32), words, mask))


def slow_attend(queries, keys, values, mask):
  """Loops in float64; mask [b, n, t]."""
  out = np.zeros((*queries.shape[:2], values.shape[-1]))
  for i, q in np.ndindex(*queries.shape[:2]):
    true = np.flatnonzero(mask[i, q])
    weights = np.exp([queries[i, q].astype(float) @ keys[i, t] for t in true])
    out[i, q] = weights @ values[i, true].astype(float) / weights.sum()
  return out


@pytest.mark.parametrize('of_queries', [False, True])
def test_attending_is_the_loops(of_queries):
  queries, words, mask = example()
  values = toys.normal(2, *words.shape[:2], 2)
  wide = np.broadcast_to(mask[:, None], (4, 5, 3))
  if of_queries:
    mask = wide = np.roll(wide, 1, 0)
  out = attend(*map(jnp.array, (queries, words, values, mask)))
  np.testing.assert_allclose(out, slow_attend(queries, words, values, wide), rtol=1e-4, atol=1e-5)


def test_attending_ignores_padding_and_is_float32():
  queries, words, mask = map(jnp.array, example())
  other = jnp.where(mask[..., None], words, 100 * jnp.array(toys.normal(7, *words.shape)))
  np.testing.assert_array_equal(attend(queries, words, words, mask),
                                attend(queries, other, other, mask))
  half = lambda x: x.astype(jnp.bfloat16)
  assert attend(half(queries), half(words), half(words), mask).dtype == jnp.float32


def test_tiled_masks_are_those_of_repeated_and_flattened_arrays():
  # Masks of the batch one after another, five times; scores of 4 rows of 5 queries one by one.
  mask = toys.numbers(0).random((4, 3)) < 0.5
  np.testing.assert_array_equal(tiled_mask(jnp.array(mask), 5),
                                np.tile(mask, (5, 1)).reshape(4, 5, 3))
