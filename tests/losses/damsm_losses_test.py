"""DAMSM's losses: by hand, against loops in float64, against torch as the original goes."""
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from contrastive_test import slow_diagonal_cross_entropy

from xmc_jax.losses import damsm
from xmc_jax.losses.contrastive import multi_positive, multi_positive_nce


def slow_word_scores(regions, words, mask, gamma1=4.0, gamma2=5.0):
  """One number at a time: places attend to words, then words to places."""
  b, n, _ = regions.shape
  regions, words = regions.astype(float), words.astype(float)
  scores = np.zeros((b, b))
  for i in range(b):
    for j in range(b):
      caption = words[j][mask[j]]
      shares = np.zeros((n, len(caption)))
      for place in range(n):
        raw = [math.exp(float(regions[i, place] @ word)) for word in caption]
        shares[place] = np.array(raw) / sum(raw)
      total = 0.0
      for t, word in enumerate(caption):
        weights = [math.exp(gamma1 * shares[place, t]) for place in range(n)]
        context = sum(w * regions[i, place] for place, w in enumerate(weights)) / sum(weights)
        cosine = context @ word / math.sqrt(float(context @ context) * float(word @ word))
        total += math.exp(gamma2 * cosine)
      scores[i, j] = math.log(total)
  return scores


def example(b=5, n=4, t=3, e=6, seed=0):
  mask = np.arange(t) < 1 + np.arange(b)[:, None] % t
  return toys.normal(seed, b, n, e), toys.normal(seed + 1, b, t, e), mask


def on_device(*xs):
  return [jnp.array(x) for x in xs]


def test_one_place_and_one_word_by_hand():
  # The only place is the context: score = 5 * cosine, (1, 0) and (3, 4): 5 and 3; lengths are free.
  x = jnp.array([[[2.0, 0]], [[3, 4]]])
  scores = damsm.word_scores(x, x, jnp.ones((2, 1), bool))
  np.testing.assert_allclose(scores, [[5, 3], [3, 5]], rtol=1e-6)
  # Times 10 a difference of 20 is left: each cross-entropy is ln(1 + e^-20).
  assert damsm.words(x, x, jnp.ones((2, 1), bool)) == pytest.approx(0, abs=1e-6)
  loss = damsm.words(x, x, jnp.ones((2, 1), bool), gamma3=0.5)      # 2 ln(1 + e^-1)
  np.testing.assert_allclose(loss, 2 * 0.313262, rtol=1e-5)


def test_two_words_by_hand():
  # One place (1, 0); words of cosines 1 and 0.6: ln(e^5 + e^3)
  scores = damsm.word_scores(jnp.array([[[2.0, 0]]]), jnp.array([[[3.0, 0], [3, 4]]]),
                             jnp.ones((1, 2), bool))
  np.testing.assert_allclose(scores, [[5.126928]], rtol=1e-6)


@pytest.mark.parametrize('b, n, t, e', [(2, 1, 1, 2), (3, 4, 2, 5), (5, 9, 4, 3)])
@pytest.mark.parametrize('gammas', [{}, {'gamma1': 5.0, 'gamma2': 3.0}])
def test_scores_are_the_loops(b, n, t, e, gammas):
  sample = example(b, n, t, e)
  slow = slow_word_scores(*sample, **gammas)
  np.testing.assert_allclose(damsm.word_scores(*on_device(*sample), **gammas), slow, rtol=2e-5,
                             atol=2e-5)
  np.testing.assert_allclose(damsm.words(*on_device(*sample), **gammas),
                             slow_diagonal_cross_entropy(10 * slow), rtol=1e-4)


def test_a_sharp_attention_loses_no_digits():
  regions, words, mask = example(2, 30, 18)
  sample = 0.2 * regions, 0.2 * words, mask      # every word has about 1 / 18 of a region
  np.testing.assert_allclose(damsm.word_scores(*on_device(*sample), gamma1=40.0),
                             slow_word_scores(*sample, gamma1=40.0), rtol=2e-5)


@pytest.mark.parametrize('cells', [1, 40, 80])      # chunks of 1, 1 and 2 of 6 captions
def test_chunks_change_nothing(cells):
  regions, words, mask = on_device(*example(6, 4, 3))
  weights = jnp.array(toys.normal(9, 6, 6))
  run = jax.jit(jax.value_and_grad(
      lambda r, w, cells: jnp.sum(weights * damsm.word_scores(r, w, mask, cells=cells)), (0, 1)),
      static_argnums=2)
  for a, b in zip(jax.tree.leaves(run(regions, words, cells)),
                  jax.tree.leaves(run(regions, words, 2 ** 24))):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_gradient_is_the_slope_of_the_loops():
  regions, words, mask = example(3)
  weights, along = toys.normal(8, 3, 3), toys.normal(9, *words.shape)
  value = lambda w: jnp.sum(damsm.word_scores(*on_device(regions), w, jnp.array(mask)) * weights)
  moved = lambda s: slow_word_scores(regions, words + s * along.astype(float), mask)
  slow = lambda s: np.sum(moved(s) * weights)
  grad_norm_sq = (slow(1e-5) - slow(-1e-5)) / 2e-5
  np.testing.assert_allclose(
    np.sum(jax.grad(value)(jnp.array(words)) * along), grad_norm_sq, rtol=1e-3
  )


@pytest.mark.slow
def test_masked_words_have_no_influence():
  regions, words, mask = example()
  other = np.where(mask[..., None], words, 100 * toys.normal(7, *words.shape))
  loss = lambda w: damsm.words(*on_device(regions, w, mask))
  assert not mask.all() and loss(words) == loss(other)
  grad = np.array(jax.grad(lambda w: damsm.words(jnp.array(regions), w, jnp.array(mask)))(
      jnp.array(words)))
  assert not grad[~mask].any() and np.abs(grad).sum(-1)[mask].all()


LABELS = np.array([3, 1, 3, 1, 2])


def slow_masked(scores, labels):
  """Cross-entropies over what is left of each row, then each column, without alike ones."""
  total = 0.0
  for s in (scores, scores.T):
    for i in range(len(s)):
      left = [s[i, j] for j in range(len(s)) if j == i or labels[j] != labels[i]]
      total += (math.log(sum(math.exp(x - max(left)) for x in left)) + max(left) - s[i, i]) / len(s)
  return total


def test_rows_of_like_label_do_not_contrast():
  regions, words, mask = example()
  scores = 10 * slow_word_scores(regions, words, mask)
  masked = damsm.words(*on_device(regions, words, mask, LABELS))
  np.testing.assert_allclose(masked, slow_masked(scores, LABELS), rtol=1e-4)
  assert abs(masked - damsm.words(*on_device(regions, words, mask))) > 1e-2
  a, b = toys.normal(3, 5, 4), toys.normal(4, 5, 4)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  np.testing.assert_allclose(damsm.sentences(*on_device(a, b, LABELS)),
                             slow_masked(10 * unit(a) @ unit(b).T, LABELS), rtol=1e-4)


def test_sets_of_classes_are_alike_by_their_rule():
  amounts = jnp.array([[1, 0.5, 0], [1, 0, 0], [0.2, 0.1, 0], [0, 0, 0], [0, 0, 0]])
  a, b = on_device(toys.normal(3, 5, 4), toys.normal(4, 5, 4))
  exact = damsm.sentences(a, b, jnp.array([0, 1, 0, 2, 3]))      # none at all is like nothing
  np.testing.assert_allclose(damsm.sentences(a, b, amounts), exact, rtol=1e-6)
  overlap = damsm.sentences(a, b, jnp.array([0, 0, 0, 2, 3]))
  np.testing.assert_allclose(damsm.sentences(a, b, amounts, rule='overlap'), overlap, rtol=1e-6)


def test_all_alike_rows_leave_nothing_to_learn():
  regions, words, mask = on_device(*example())
  same = jnp.zeros(5, jnp.int32)
  value, grads = jax.value_and_grad(damsm.words, (0, 1))(regions, words, mask, same)
  assert value == 0 and all(not np.any(g) for g in grads)


def test_multi_positive_loss_without_shared_labels_is_the_sentences_loss():
  a, b = on_device(toys.normal(0, 6, 4), toys.normal(1, 6, 4))
  alone = jnp.eye(6, dtype=bool)
  np.testing.assert_allclose(multi_positive_nce(a, b, alone, 1 / damsm.GAMMA3),
                             damsm.sentences(a, b, jnp.arange(6)), rtol=1e-5)


def test_multi_positive_of_scores_is_the_words_loss_without_shared_labels():
  regions, words, mask = on_device(*example())
  scores = damsm.GAMMA3 * damsm.word_scores(regions, words, mask)
  np.testing.assert_allclose(multi_positive(scores, jnp.zeros((5, 5), bool)),
                             damsm.words(regions, words, mask), rtol=1e-5)


def test_the_losses_are_those_of_torch():
  torch = pytest.importorskip('torch')
  F = torch.nn.functional
  regions, words, mask = example(4, 6, 3, 5)
  labels = np.array([0, 1, 0, 2])
  C, E = torch.tensor(regions), torch.tensor(words, requires_grad=True)
  columns = []
  for j in range(4):                     # a caption against all images, as the original goes
    query = E[j, :int(mask[j].sum())].T.expand(4, -1, -1)              # [b, e, t]
    shares = torch.softmax(C @ query, 2)                               # over words, [b, n, t]
    attention = torch.softmax(4 * shares.transpose(1, 2), 2)           # over places, [b, t, n]
    context = attention @ C
    columns.append(torch.log(torch.exp(5 * F.cosine_similarity(
        query.transpose(1, 2), context, dim=2)).sum(1)))
  scores = 10 * torch.stack(columns, 1)
  alike = torch.tensor((labels[:, None] == labels) & ~np.eye(4, dtype=bool))
  scores = scores.masked_fill(alike, float('-inf'))
  target = torch.arange(4)
  loss = F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)
  loss.backward()
  value, grad = jax.value_and_grad(damsm.words, 1)(*on_device(regions, words, mask, labels))
  np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
  np.testing.assert_allclose(grad, E.grad.numpy(), rtol=1e-3, atol=1e-6)
