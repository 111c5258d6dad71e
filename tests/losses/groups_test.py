"""Contrast within groups of rows: the mean of the loops over each group, and nothing else."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from contrastive_test import slow_diagonal_cross_entropy, slow_nt_xent
from matching_test import example, slow_word_scores
from supervised_test import slow_sup_con

from xmc_jax.losses.contrastive import nt_xent, sup_con
from xmc_jax.losses.groups import within
from xmc_jax.losses.matching import word_loss, word_scores
from xmc_jax.losses.positives import positive_pairs


def split(n, *arrays):
  """The arrays of one group after the other."""
  return zip(*(np.split(x, len(x) // n) for x in arrays))


@pytest.mark.parametrize('n', [2, 4, 8])
def test_nt_xent_within_groups_is_the_mean_of_the_loops(n):
  x, y = toys.normal(0, 8, 5), toys.normal(1, 8, 5)
  expected = np.mean([slow_nt_xent(a, b) for a, b in split(n, x, y)])
  np.testing.assert_allclose(within(n, nt_xent)(jnp.array(x), jnp.array(y)), expected, rtol=1e-5)


@pytest.mark.parametrize('n', [2, 3, 6])
def test_word_loss_within_groups_is_the_mean_of_the_loops(n):
  sample = example(b=6)
  expected = np.mean([slow_diagonal_cross_entropy(slow_word_scores(*group))
                      for group in split(n, *sample)])
  np.testing.assert_allclose(within(n, word_loss)(*map(jnp.array, sample)), expected, rtol=1e-4)


def test_labels_travel_with_their_rows():
  z, labels = toys.normal(0, 6, 4), np.array([0, 1, 0, 0, 0, 1])
  loss = within(3, lambda z, labels: sup_con(z, positive_pairs(labels), 0.1))
  expected = np.mean([slow_sup_con(z, y[:, None] == y, 0.1) for z, y in split(3, z, labels)])
  np.testing.assert_allclose(loss(jnp.array(z), jnp.array(labels)), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('loss, sample', [
    (nt_xent, (toys.normal(0, 8, 5), toys.normal(1, 8, 5))), (word_loss, example(8))])
def test_one_group_of_all_rows_is_the_whole_batch(loss, sample):
  sample = [jnp.array(x) for x in sample]
  value, grad = jax.value_and_grad(loss)(*sample)
  one, one_grad = jax.value_and_grad(within(8, loss))(*sample)
  np.testing.assert_allclose(one, value, rtol=1e-6)
  np.testing.assert_allclose(one_grad, grad, rtol=1e-4, atol=1e-6)
  assert within(None, loss) is loss
  assert abs(within(4, loss)(*sample) - value) > 0.1


def test_rows_of_another_group_have_no_influence():
  x, y = jnp.array(toys.normal(0, 8, 5)), jnp.array(toys.normal(1, 8, 5))
  grad = lambda y: jax.grad(within(4, nt_xent))(x, y)
  moved = grad(y.at[5].set(7 * y[2]))
  np.testing.assert_array_equal(moved[:4], grad(y)[:4])
  assert (moved[4:] != grad(y)[4:]).any(1).all()


def test_masked_words_have_no_influence_within_groups():
  regions, words, mask = example(6)
  other = np.where(mask[..., None], words, 100 * toys.normal(7, *words.shape))
  loss = lambda w: within(3, word_loss)(jnp.array(regions), jnp.array(w), jnp.array(mask))
  assert not mask.all() and loss(words) == loss(other)


def test_groups_larger_than_a_chunk_of_captions_are_scored_in_chunks():
  sample = [jnp.array(x) for x in example(8)]
  chunked = lambda *x: word_loss(*x, scores=lambda *x: word_scores(*x, chunk=2))
  whole, whole_grad = jax.value_and_grad(within(4, word_loss))(*sample)
  value, grad = jax.value_and_grad(within(4, chunked))(*sample)
  np.testing.assert_allclose(value, whole, rtol=1e-5)
  np.testing.assert_allclose(grad, whole_grad, rtol=1e-4, atol=1e-5)
