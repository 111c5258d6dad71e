"""Spectral normalization of a parameter tree: by hand, and against numpy's singular values."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.spectral import init_vectors, spectral_normalize

pytestmark = pytest.mark.usefixtures('strict')

PARAMS = {'conv': {'kernel': toys.normal(0, 3, 3, 4, 5), 'bias': toys.normal(1, 5)},
          'inner': {'dense': {'kernel': toys.normal(2, 6, 2), 'scale': toys.normal(3, 2)}}}
VECTORS = {'conv': {'kernel': toys.normal(4, 5) / np.linalg.norm(toys.normal(4, 5))},
           'inner': {'dense': {'kernel': np.array([0.6, 0.8], np.float32)}}}


def test_sigma_of_four_times_the_identity_is_four():
  params = {'kernel': 4 * jnp.eye(3)}
  normalized, vectors = spectral_normalize(params, init_vectors(jax.random.key(0), params))
  np.testing.assert_allclose(normalized['kernel'], np.eye(3), atol=1e-6)
  np.testing.assert_allclose(np.linalg.norm(vectors['kernel']), 1, rtol=1e-6)


def test_one_call_is_one_power_iteration():
  # W = diag(3, 1), u = (0.6, 0.8).  v = Wu / |Wu| = (1.8, 0.8) / 1.969772 = (0.913812, 0.406138)
  # W'v = (2.741435, 0.406138), of length 2.771357: u' = (0.989203, 0.146549)
  # sigma = v'W u' = |W'v| = 2.771357: not yet 3
  params = {'kernel': jnp.diag(jnp.array([3.0, 1]))}
  normalized, vectors = spectral_normalize(params, {'kernel': jnp.array([0.6, 0.8])})
  np.testing.assert_allclose(vectors['kernel'], [0.989203, 0.146549], rtol=1e-5)
  np.testing.assert_allclose(jnp.diag(normalized['kernel']), [3 / 2.771357, 1 / 2.771357],
                             rtol=1e-5)


def test_repeated_calls_find_the_largest_singular_value():
  vectors = jax.lax.fori_loop(0, 60, lambda i, v: spectral_normalize(PARAMS, v)[1],
                              jax.tree.map(jnp.array, VECTORS))
  normalized, _ = spectral_normalize(PARAMS, vectors)
  for before, after, outputs in (
      (PARAMS['conv']['kernel'], normalized['conv']['kernel'], 5),
      (PARAMS['inner']['dense']['kernel'], normalized['inner']['dense']['kernel'], 2)):
    largest = np.linalg.svd(before.reshape(-1, outputs), compute_uv=False)[0]
    np.testing.assert_allclose(after, before / largest, rtol=1e-4)


def test_kernels_only():
  normalized, vectors = spectral_normalize(PARAMS, VECTORS)
  np.testing.assert_array_equal(normalized['conv']['bias'], PARAMS['conv']['bias'])
  np.testing.assert_array_equal(normalized['inner']['dense']['scale'],
                                PARAMS['inner']['dense']['scale'])
  assert jax.tree.structure(normalized) == jax.tree.structure(PARAMS)
  assert jax.tree.structure(vectors) == jax.tree.structure(VECTORS)
  assert not np.allclose(normalized['conv']['kernel'], PARAMS['conv']['kernel'], atol=0.1)


def test_first_vectors_are_unit_one_for_each_kernel_and_different():
  vectors = init_vectors(jax.random.key(0), PARAMS | {'other': PARAMS['conv']})
  assert jax.tree.map(jnp.shape, vectors) == jax.tree.map(np.shape, VECTORS | {
      'other': VECTORS['conv']})
  for v in jax.tree.leaves(vectors):
    np.testing.assert_allclose(np.linalg.norm(v), 1, rtol=1e-5)
  assert not np.allclose(vectors['conv']['kernel'], vectors['other']['kernel'])


def test_without_advance_the_vectors_stay_and_the_kernels_are_the_same():
  with_advance, _ = spectral_normalize(PARAMS, VECTORS)
  without, vectors = spectral_normalize(PARAMS, VECTORS, advance=False)
  jax.tree.map(np.testing.assert_array_equal, vectors, VECTORS)
  jax.tree.map(np.testing.assert_array_equal, without, with_advance)


def test_gradient_passes_through_sigma_but_not_through_the_vectors():
  # With v and u held still, L = sum(C * W / sigma) and sigma = v'Wu give
  # dL/dW = C / sigma - sum(C * W) / sigma^2 * v u'
  w, cotangent = toys.normal(2, 6, 2).astype(float), toys.normal(5, 6, 2).astype(float)
  u = np.array([0.6, 0.8])
  v = w @ u / np.linalg.norm(w @ u)
  u = v @ w / np.linalg.norm(v @ w)
  sigma = v @ w @ u
  by_hand = cotangent / sigma - np.sum(cotangent * w) / sigma ** 2 * np.outer(v, u)

  def value(kernel):
    normalized, _ = spectral_normalize({'kernel': kernel}, {'kernel': jnp.array([0.6, 0.8])})
    return jnp.sum(normalized['kernel'] * jnp.array(cotangent, jnp.float32))

  grad = jax.grad(value)(jnp.array(w, jnp.float32))
  np.testing.assert_allclose(grad, by_hand, rtol=1e-4, atol=1e-5)


def test_next_vectors_carry_no_gradient_to_the_parameters():
  total = lambda params: sum(jnp.sum(v) for v in
                             jax.tree.leaves(spectral_normalize(params, VECTORS)[1]))
  assert not any(g.any() for g in jax.tree.leaves(jax.grad(total)(PARAMS)))
