"""The divergence of drawn conditions, by hand and against sums of samples."""
import jax.numpy as jnp
import numpy as np
import toys

from xmc_jax.losses.latent import kl_to_normal


def test_by_hand():
  # One row, two features. N(1, 1): (1 + 0 - 1 - 1) = -1; N(0, 4): 1 + ln 4 - 0 - 4.
  # -1/2 of the mean of both.
  mean, log_variance = jnp.array([[1.0, 0]]), jnp.log(jnp.array([[1.0, 4]]))
  np.testing.assert_allclose(kl_to_normal(mean, log_variance), -(-1 + np.log(4) - 3) / 4, rtol=1e-6)


def test_the_standard_normal_is_at_no_distance():
  assert kl_to_normal(jnp.zeros((2, 3)), jnp.zeros((2, 3))) == 0


def test_mean_over_rows_and_features_of_the_integral():
  mean, log_variance = toys.normal(0, 3, 4), toys.normal(1, 3, 4)
  x = np.linspace(-30, 30, 60_001)
  normal = lambda m, v: np.exp(-(x - m) ** 2 / (2 * v)) / np.sqrt(2 * np.pi * v)
  loss = 0.0
  for m, v in zip(mean.astype(float).ravel(), np.exp(log_variance.astype(float)).ravel()):
    logs = (x ** 2 - (x - m) ** 2 / v - np.log(v)) / 2       # of the ratio of the densities
    loss += np.sum(normal(m, v) * logs) * (x[1] - x[0]) / mean.size
  np.testing.assert_allclose(kl_to_normal(jnp.array(mean), jnp.array(log_variance)), loss,
                             rtol=1e-5)
