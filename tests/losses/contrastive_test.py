"""The contrastive losses, by hand, against loops in float64, and what must not change them."""
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.losses import contrastive


def slow_diagonal_cross_entropy(scores):
  b, loss = len(scores), 0.0
  for i in range(b):
    row = math.log(sum(math.exp(scores[i][j]) for j in range(b)))
    column = math.log(sum(math.exp(scores[j][i]) for j in range(b)))
    loss += (row - scores[i][i] + column - scores[i][i]) / b
  return loss


def slow_nt_xent(a, b, temperature=0.1):
  a, b = a.astype(float), b.astype(float)
  cosine = lambda x, y: float(x @ y) / (float(x @ x) * float(y @ y)) ** 0.5
  return slow_diagonal_cross_entropy([[cosine(x, y) / temperature for y in b] for x in a])


def test_diagonal_cross_entropy_by_hand():
  # scores   ln 3  0      rows:    -ln 3/4, -ln 1/2
  #          0     0      columns: -ln 3/4, -ln 1/2     mean of two sums: ln 4/3 + ln 2 = 0.980829
  scores = jnp.array([[math.log(3), 0], [0, 0]])
  np.testing.assert_allclose(contrastive.diagonal_cross_entropy(scores), 0.980829, rtol=1e-5)


def test_nt_xent_by_hand():
  # Of length one: a = (1, 0), (0, 1); b = (1, 0), (0.6, 0.8). Cosines / 0.1:  10  6
  #                                                                             0  8
  # rows:    ln(1 + e^-4) = 0.018150, ln(1 + e^-8)  = 0.000335
  # columns: ln(1 + e^-2) = 0.126928, ln(1 + e^-10) = 0.000045    sum / 2 = 0.072729
  a, b = jnp.array([[3.0, 0], [0, 2]]), jnp.array([[1.0, 0], [3, 4]])
  np.testing.assert_allclose(contrastive.nt_xent(a, b), 0.072729, rtol=2e-5)


def test_one_row_has_nothing_to_contrast_with():
  assert contrastive.nt_xent(jnp.array([[1.0, 2]]), jnp.array([[-3.0, 1]])) == 0


@pytest.mark.parametrize('b, d, temperature', [(2, 3, 0.1), (5, 4, 0.1), (8, 16, 0.5)])
def test_nt_xent_is_the_loops(b, d, temperature):
  x, y = toys.normal(0, b, d), toys.normal(1, b, d)
  np.testing.assert_allclose(contrastive.nt_xent(jnp.array(x), jnp.array(y), temperature),
                             slow_nt_xent(x, y, temperature), rtol=1e-5)


def test_gradient_is_the_slope_of_the_loops():
  x, y, along = (toys.normal(seed, 5, 4) for seed in range(3))
  for i, grad in enumerate(jax.grad(contrastive.nt_xent, (0, 1))(jnp.array(x), jnp.array(y))):
    at = lambda s: slow_nt_xent(*(v + s * along.astype(float) * (i == j)
                                  for j, v in enumerate((x, y))))
    grad_norm_sq = (at(1e-5) - at(-1e-5)) / 2e-5
    np.testing.assert_allclose(np.sum(grad * along), grad_norm_sq, rtol=1e-4)


def test_permuting_pairs_and_scaling_rows_leave_the_loss():
  x, y = toys.normal(0, 6, 4), toys.normal(1, 6, 4)
  order, lengths = np.array([3, 0, 5, 1, 4, 2]), np.arange(1, 7, dtype=np.float32)[:, None]
  loss = contrastive.nt_xent(jnp.array(x), jnp.array(y))
  np.testing.assert_allclose(contrastive.nt_xent(jnp.array(x[order]), jnp.array(y[order])), loss,
                             rtol=1e-5)
  np.testing.assert_allclose(contrastive.nt_xent(jnp.array(lengths * x), jnp.array(y)), loss,
                             rtol=1e-5)


def test_pairing_matters():
  x = jnp.array(toys.normal(0, 6, 4))
  assert contrastive.nt_xent(x, x) + 1 < contrastive.nt_xent(x, x[::-1])


def test_bfloat16_codes_are_contrasted_in_float32():
  x, y = jnp.array(toys.normal(0, 6, 4)), jnp.array(toys.normal(1, 6, 4))
  small = [v.astype(jnp.bfloat16) for v in (x, y)]
  loss = contrastive.nt_xent(*small)
  assert loss.dtype == jnp.float32
  assert loss == contrastive.nt_xent(*[v.astype(jnp.float32) for v in small])


def test_a_row_of_zeros_has_a_finite_loss_and_gradient():
  x, y = jnp.zeros((3, 4)).at[0].set(1), jnp.array(toys.normal(1, 3, 4))
  loss, grad = jax.value_and_grad(contrastive.nt_xent)(x, y)
  assert np.isfinite(loss) and np.isfinite(grad).all()


def test_retrieval_accuracy_by_hand():
  # Row 0 is nearest to its own partner; rows 1 and 2 are nearest to each other's; row 3 is right.
  a = jnp.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
  b = jnp.array([[9.0, 1], [-1, 0], [0.1, 1], [0, -3]])
  assert contrastive.retrieval_accuracy(a, b) == 0.5
