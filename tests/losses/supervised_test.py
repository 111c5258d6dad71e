"""Supervised contrast: by hand, against loops in float64, and where rows are few or alone."""
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from contrastive_test import slow_nt_xent

from xmc_jax.losses.contrastive import multi_positive_nce, nt_xent, sup_con


def cosine(x, y):
  return float(x @ y) / (float(x @ x) * float(y @ y)) ** 0.5


def slow_sup_con(z, positives, temperature):
  z, m, loss = z.astype(float), len(z), 0.0
  for i in range(m):
    others = [a for a in range(m) if a != i]
    total = sum(float(positives[i, p]) for p in others)
    if total:
      below = sum(math.exp(cosine(z[i], z[a]) / temperature) for a in others)
      for p in others:
        share = math.exp(cosine(z[i], z[p]) / temperature) / below
        loss -= float(positives[i, p]) / total * math.log(share) / m
  return loss


def slow_multi_positive(a, b, positives, temperature):
  def one_way(a, b, fits):
    loss = 0.0
    for i in range(len(a)):
      scores = [math.exp(cosine(a[i], y) / temperature) for y in b]
      weights = [1.0 if i == k else float(fits(i, k)) for k in range(len(b))]
      loss -= sum(w * math.log(s / sum(scores)) for w, s in zip(weights, scores)) / sum(weights)
    return loss / len(a)
  a, b = a.astype(float), b.astype(float)
  return (one_way(a, b, lambda i, k: positives[i, k]) + one_way(b, a, lambda k, i: positives[i, k]))


def pairs(m, seed=0):
  """Positives [m, m] that are neither symmetric nor all there, and row 0 without any."""
  found = toys.numbers(100 + seed).random((m, m)) < 0.4
  return found & (np.arange(m) > 0)[:, None]


WEIGHTS = [lambda m: pairs(m), lambda m: toys.numbers(1).random((m, m)) * pairs(m)]
KINDS = pytest.mark.parametrize('positives', WEIGHTS, ids=['bool', 'weights'])

# Of length one: (1, 0), (0.6, 0.8), (0, 1). Cosines / 0.2 of 0-1, 0-2, 1-2: 3, 0, 4.
CORNER = jnp.array([[2.0, 0], [3, 4], [0, 1]])


def test_sup_con_by_hand():
  # 0 and 1 belong together. Row 0: ln(1 + e^-3) = 0.048587; row 1: ln(1 + e^1) = 1.313262;
  # row 2 has no positive: 0. Mean 0.453950
  together = jnp.array([[False, True, False], [True, False, False], [False, False, False]])
  np.testing.assert_allclose(sup_con(CORNER, together, 0.2), 0.453950, rtol=1e-5)


def test_sup_con_of_two_positives_by_hand():
  # All belong together. Rows: ln(e^3 + 1) - 1.5 = 1.548587, ln(e^3 + e^4) - 3.5 = 0.813262,
  # ln(1 + e^4) - 2 = 2.018150. Mean 1.460000
  np.testing.assert_allclose(sup_con(CORNER, jnp.ones((3, 3), bool), 0.2), 1.46, rtol=1e-5)


def test_multi_positive_by_hand():
  # Of length one: a = (1, 0), (0, 1); b = (1, 0), (0.6, 0.8). Cosines / 0.1:  10  6
  #                                                                             0  8
  # Besides the diagonal, row 0 of a has row 1 of b.
  # a to b: ln(e^10 + e^6) - 8 = 2.018150 and ln(1 + e^8) - 8 = 0.000335; mean 1.009243
  # b to a: ln(e^10 + 1) - 10 = 0.000045 and ln(e^6 + e^8) - 7 = 1.126928; mean 0.563487
  a, b = jnp.array([[3.0, 0], [0, 2]]), jnp.array([[1.0, 0], [3, 4]])
  positives = jnp.array([[False, True], [False, False]])
  np.testing.assert_allclose(multi_positive_nce(a, b, positives, 0.1), 1.572729, rtol=1e-5)


@KINDS
@pytest.mark.parametrize('m, d, temperature', [(2, 3, 0.5), (5, 4, 0.07), (9, 16, 0.1)])
def test_losses_are_the_loops(positives, m, d, temperature):
  x, y, given = toys.normal(0, m, d), toys.normal(1, m, d), positives(m)
  np.testing.assert_allclose(sup_con(jnp.array(x), jnp.array(given), temperature),
                             slow_sup_con(x, given, temperature), rtol=1e-5)
  np.testing.assert_allclose(
      multi_positive_nce(jnp.array(x), jnp.array(y), jnp.array(given), temperature),
      slow_multi_positive(x, y, given, temperature), rtol=1e-5)


@KINDS
def test_gradients_are_the_slopes_of_the_loops(positives):
  x, y, along = (toys.normal(seed, 5, 4) for seed in range(3))
  given = positives(5)
  step = 1e-5 * along.astype(float)
  for grad, slow in (
      (jax.grad(sup_con)(jnp.array(x), jnp.array(given), 0.1),
       lambda s: slow_sup_con(x + s * step, given, 0.1)),
      (jax.grad(multi_positive_nce)(jnp.array(x), jnp.array(y), jnp.array(given), 0.1),
       lambda s: slow_multi_positive(x + s * step, y, given, 0.1)),
      (jax.grad(multi_positive_nce, 1)(jnp.array(x), jnp.array(y), jnp.array(given), 0.1),
       lambda s: slow_multi_positive(x, y + s * step, given, 0.1))):
    np.testing.assert_allclose(np.sum(grad * along), (slow(1) - slow(-1)) / 2e-5, rtol=1e-4)


def test_sup_con_of_one_positive_is_one_direction_of_nt_xent_without_the_row_itself():
  # Two views of four things, as SimCLR has them: the other view is the one positive of a row.
  z, partner, loss = toys.normal(0, 8, 5), (np.arange(8) + 4) % 8, 0.0
  for i in range(8):
    scores = {a: cosine(z[i].astype(float), z[a].astype(float)) / 0.5 for a in range(8) if a != i}
    loss += (math.log(sum(map(math.exp, scores.values()))) - scores[partner[i]]) / 8
  positives = jnp.array(partner[:, None] == np.arange(8))
  np.testing.assert_allclose(sup_con(jnp.array(z), positives, 0.5), loss, rtol=1e-5)


def test_multi_positive_of_the_diagonal_is_nt_xent():
  x, y = jnp.array(toys.normal(0, 6, 4)), jnp.array(toys.normal(1, 6, 4))
  for positives in (jnp.eye(6, dtype=bool), jnp.zeros((6, 6), bool)):
    loss, grads = jax.value_and_grad(multi_positive_nce, (0, 1))(x, y, positives, 0.1)
    expected, slopes = jax.value_and_grad(nt_xent, (0, 1))(x, y)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(loss, slow_nt_xent(np.array(x), np.array(y)), rtol=1e-5)
    for grad, grad_norm_sq in zip(grads, slopes):
      np.testing.assert_allclose(grad, grad_norm_sq, rtol=1e-4, atol=1e-6)


@KINDS
def test_order_and_length_of_rows_do_not_matter(positives):
  x, y, given = jnp.array(toys.normal(0, 6, 4)), jnp.array(toys.normal(1, 6, 4)), positives(6)
  order, lengths = np.array([3, 0, 5, 1, 4, 2]), jnp.arange(1.0, 7)[:, None]
  moved = jnp.array(given[order][:, order])
  for loss in (lambda x, y, p: sup_con(x, p, 0.1),
               lambda x, y, p: multi_positive_nce(x, y, p, 0.1)):
    expected = loss(x, y, jnp.array(given))
    np.testing.assert_allclose(loss(x[order], y[order], moved), expected, rtol=1e-5)
    np.testing.assert_allclose(loss(lengths * x, y, jnp.array(given)), expected, rtol=1e-5)


def test_the_diagonal_of_positives_is_not_looked_at():
  x, given = jnp.array(toys.normal(0, 5, 4)), jnp.array(pairs(5))
  both = given | jnp.eye(5, dtype=bool)
  assert sup_con(x, given, 0.1) == sup_con(x, both, 0.1)
  assert multi_positive_nce(x, -x, given, 0.1) == multi_positive_nce(x, -x, both, 0.1)


def test_rows_without_positives_teach_only_as_negatives():
  x, none = jnp.array(toys.normal(0, 5, 4)), jnp.zeros((5, 5), bool)
  loss, grad = jax.value_and_grad(sup_con)(x, none, 0.07)
  assert loss == 0 and not grad.any()
  loss, grad = jax.value_and_grad(sup_con)(x, none.at[0, 1].set(True), 0.07)
  assert loss > 0 and np.isfinite(grad).all() and (jnp.abs(grad).sum(1) > 0).all()


@pytest.mark.parametrize('m', [1, 2])
def test_few_rows_have_finite_gradients(m):
  x, all_of_them = jnp.array(toys.normal(0, m, 4)), jnp.ones((m, m), bool)
  for loss, grad in (jax.value_and_grad(sup_con)(x, all_of_them, 0.07),
                     jax.value_and_grad(multi_positive_nce)(x, -x, all_of_them[:, ::-1], 0.07)):
    assert np.isfinite(loss) and np.isfinite(grad).all()
  assert sup_con(x, all_of_them, 0.07) == 0         # a single partner, or none: nothing to choose


def test_equal_and_opposite_rows_at_a_low_temperature():
  # Cosines of 1 and -1 over 0.01 are +-100, beyond the exp of float32.
  z = jnp.array([[1.0, 2], [1, 2], [-1, -2], [1, 2.5]])
  positives = jnp.array(np.arange(4)[:, None] + np.arange(4) == 3)    # 0-3 and 1-2
  for loss, slow in ((sup_con, slow_sup_con),
                     (lambda z, p, t: multi_positive_nce(z, z, p, t),
                      lambda z, p, t: slow_multi_positive(z, z, p, t))):
    value, grad = jax.value_and_grad(loss)(z, positives, 0.01)
    np.testing.assert_allclose(value, slow(np.array(z), np.array(positives), 0.01), rtol=1e-5)
    assert value > 25 and np.isfinite(grad).all()


def test_a_row_of_zeros_has_a_finite_gradient():
  z = jnp.zeros((3, 4)).at[0].set(1)
  everything = jnp.ones((3, 3), bool)
  assert np.isfinite(jax.grad(sup_con)(z, everything, 0.07)).all()
  assert np.isfinite(jax.grad(multi_positive_nce)(z, z, everything, 0.07)).all()


def test_bfloat16_codes_are_contrasted_in_float32():
  x, given = jnp.array(toys.normal(0, 6, 4)).astype(jnp.bfloat16), jnp.array(pairs(6))
  for loss in (sup_con, lambda z, p, t: multi_positive_nce(z, z[::-1], p, t)):
    value = loss(x, given, 0.07)
    assert value.dtype == jnp.float32 and value == loss(x.astype(jnp.float32), given, 0.07)
    assert value == loss(x, given.astype(jnp.bfloat16), 0.07)
