"""Told labels, by hand."""
import jax.numpy as jnp
import numpy as np

from xmc_jax.losses.labels import label_cross_entropy


def test_one_class_a_row():
  # ln(1 + 1 + e^2) - 2 = 0.239545 and ln 3 = 1.098612; mean 0.669078
  logits = jnp.array([[0.0, 2, 0], [1, 1, 1]])
  np.testing.assert_allclose(label_cross_entropy(logits, jnp.array([1, 0])), 0.669078, rtol=1e-5)


def test_amounts_of_classes_are_there_or_not():
  # there: ln(1 + e^-2) = 0.126928; absent: ln(1 + e^1) = 1.313262, ln 2 = 0.693147 twice
  logits = jnp.array([[2.0, 1], [0, 0]])
  amounts = jnp.array([[0.01, 0], [0, 1]])
  expected = (0.126928 + 1.313262 + 2 * 0.693147) / 4
  np.testing.assert_allclose(label_cross_entropy(logits, amounts), expected, rtol=1e-5)
