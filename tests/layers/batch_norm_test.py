"""Batch normalization with scale and bias, against numpy."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.batch_norm import BatchNorm

pytestmark = pytest.mark.usefixtures('strict')

SCALE, BIAS = np.array([1.0, 2, -0.5], np.float32), np.array([0.0, 1, 3], np.float32)
STATS = {'norm': {'mean': np.array([1.0, 2, 3], np.float32),
                  'var': np.array([4.0, 9, 0.25], np.float32)}}


def apply(x, train, rows=None):
  variables = {'params': {'scale': SCALE, 'bias': BIAS}, 'batch_stats': STATS}
  return BatchNorm(rows).apply(variables, jnp.array(x), train, mutable=['batch_stats'])


@pytest.mark.parametrize('shape', [(8, 3), (8, 2, 2, 3)])
@pytest.mark.parametrize('rows', [None, 4])
def test_groups_are_normalized_then_scaled_and_shifted(shape, rows):
  x = 3 + 2 * toys.normal(0, *shape)
  out = apply(x, True, rows)[0]
  assert out.shape == shape
  for group, found in zip(np.split(x.astype(float), 8 // (rows or 8)),
                          np.split(out, 8 // (rows or 8))):
    axes = tuple(range(len(shape) - 1))
    normal = (group - group.mean(axes)) / np.sqrt(group.var(axes) + 1e-5)
    np.testing.assert_allclose(found, SCALE * normal + BIAS, rtol=1e-4, atol=1e-5)


def test_evaluation_takes_the_running_statistics():
  x = toys.normal(0, 2, 3)
  out, after = apply(x, False)
  stats = STATS['norm']
  expected = SCALE * (x - stats['mean']) / np.sqrt(stats['var'] + 1e-5) + BIAS
  np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, dict(after['batch_stats']), STATS)


def test_scales_start_around_one_and_biases_at_zero():
  params = BatchNorm().init(jax.random.key(0), jnp.zeros((2, 10_000)), True)['params']
  np.testing.assert_allclose([params['scale'].mean(), params['scale'].std()], [1, 0.02], rtol=0.02)
  assert not params['bias'].any()


def test_bfloat16_stays():
  x = jnp.array(toys.normal(0, 8, 3), jnp.bfloat16)
  out, after = apply(x, True)
  assert out.dtype == jnp.bfloat16
  assert {v.dtype for v in jax.tree.leaves(after)} == {jnp.dtype(jnp.float32)}
