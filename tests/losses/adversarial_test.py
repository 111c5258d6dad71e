"""The hinge and cross entropy losses, by hand and against loops."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.losses.adversarial import bce, bce_d, bce_g, hinge_d, hinge_g


def test_hinge_by_hand():
  # Discriminator:    real 2.0 -> 0 (beyond the margin), -0.5 -> 1.5: mean 0.75
  #            fake -3.0 -> 0,                     0.5 -> 1.5: mean 0.75; together 1.5
  # Generator: -(-3 + 0.5) / 2 = 1.25
  real, fake = jnp.array([2.0, -0.5]), jnp.array([-3.0, 0.5])
  assert hinge_d(real, fake) == 1.5
  assert hinge_g(fake) == 1.25


def test_gradient_by_hand():
  # Only a logit within the margin is pushed: by 1/b upwards if real, downwards if fake.
  real, fake = jnp.array([2.0, -0.5]), jnp.array([-3.0, 0.5])
  np.testing.assert_array_equal(jax.grad(hinge_d, 0)(real, fake), [0, -0.5])
  np.testing.assert_array_equal(jax.grad(hinge_d, 1)(real, fake), [0, 0.5])
  np.testing.assert_array_equal(jax.grad(hinge_g)(fake), [-0.5, -0.5])


@pytest.mark.parametrize('rows', [1, 2, 7])
def test_hinge_is_the_loops(rows):
  real, fake = 2 * toys.normal(0, rows), 2 * toys.normal(1, rows)
  loss = 0.0
  for r, f in zip(real.astype(float), fake.astype(float)):
    loss += (max(0.0, 1 - r) + max(0.0, 1 + f)) / rows
  np.testing.assert_allclose(hinge_d(jnp.array(real), jnp.array(fake)), loss, rtol=1e-6)
  np.testing.assert_allclose(hinge_g(jnp.array(fake)), -sum(fake.astype(float)) / rows, rtol=1e-5)


def test_means_of_bfloat16_logits_are_taken_in_float32():
  logits = jnp.full(1000, 1.0078125, jnp.bfloat16)        # exact in bfloat16; its sum is not
  assert hinge_g(logits).dtype == jnp.float32
  np.testing.assert_allclose(hinge_g(logits), -1.0078125, rtol=1e-6)
  np.testing.assert_allclose(hinge_d(-logits, logits), 2 * 2.0078125, rtol=1e-6)


def test_cross_entropy_by_hand():
  # sigmoid(ln 3) = 3/4: as real -ln 3/4, as fake -ln 1/4; sigmoid(0) = 1/2: ln 2 either way.
  logits = jnp.log(jnp.array([3.0, 1]))
  np.testing.assert_allclose(bce(logits, True), (np.log(4 / 3) + np.log(2)) / 2, rtol=1e-6)
  np.testing.assert_allclose(bce(logits, False), (np.log(4) + np.log(2)) / 2, rtol=1e-6)


def test_cross_entropy_of_extreme_logits_is_finite():
  for logit, real, loss in ((-1e4, True, 1e4), (1e4, False, 1e4), (1e4, True, 0), (-1e4, False, 0)):
    np.testing.assert_allclose(bce(jnp.array([logit]), real), loss, rtol=1e-6)


def test_discriminator_means_two_real_and_three_fake_sets_of_logits():
  # Row means of the five sets, all of one value v: as real ln(1 + e^-v), as fake ln(1 + e^v). The
  # wrong pairs are one less than the images.
  as_fake = lambda v: np.log1p(np.exp(v))
  full = lambda v, rows=3: jnp.full(rows, v)
  found = bce_d((full(1.0), full(2.0)), (full(-1.0), full(0.5)), full(3.0, 2))
  expected = (as_fake(-1) + as_fake(-2)) / 2 + (as_fake(-1) + as_fake(0.5) + as_fake(3)) / 3
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  np.testing.assert_allclose(bce_g((full(1.0), full(-2.0))), as_fake(-1) + as_fake(2), rtol=1e-6)


def test_cross_entropy_of_bfloat16_is_float32():
  logits = jnp.array([0.5, -2], jnp.bfloat16)
  assert bce_g((logits, logits)).dtype == bce_d((logits,) * 2, (logits,) * 2, logits).dtype \
      == jnp.float32
