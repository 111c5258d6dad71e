"""Batch normalization in groups and its modulations, against numpy group by group."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers import norm
from xmc_jax.layers.impl import FAST, REFERENCE
from xmc_jax.layers.norm import ConditionalNorm, GroupedBatchNorm, LocalConditionalNorm
from xmc_jax.types import UserError

pytestmark = pytest.mark.usefixtures('strict')

X = 3 + 2 * toys.normal(0, 8, 4, 4, 3)
NO_CHANGE = jnp.zeros((8, 1, 1, 3))     # gamma and beta
FRESH = {'batch_stats': {'mean': np.zeros(3, np.float32), 'var': np.ones(3, np.float32)}}


def slow_norm(x, rows, epsilon=1e-5):
  """Each run of `rows` rows normalized by its own mean and (biased) variance, in float64."""
  out = []
  for start in range(0, len(x), rows):
    group = x[start:start + rows].astype(float)
    mean, var = group.mean((0, 1, 2)), group.var((0, 1, 2))
    out.append((group - mean) / np.sqrt(var + epsilon))
  return np.concatenate(out)


def train(rows, x=X, variables=FRESH):
  zero = NO_CHANGE.astype(x.dtype)
  return GroupedBatchNorm(rows).apply(variables, jnp.asarray(x), zero, zero, True,
                                      mutable=['batch_stats'])


@pytest.mark.parametrize('rows', [1, 2, 4, 8])
def test_groups_are_normalized_one_by_one(rows):
  np.testing.assert_allclose(train(rows)[0], slow_norm(X, rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('rows', [None, 8, 100])
def test_none_and_groups_beyond_the_batch_mean_all_rows(rows):
  np.testing.assert_allclose(train(rows)[0], slow_norm(X, 8), rtol=1e-4, atol=1e-5)


def test_a_group_does_not_see_the_others():
  other = np.concatenate([X[:4], 10 * X[4:]])
  np.testing.assert_array_equal(train(4)[0][:4], train(4, other)[0][:4])
  assert not np.allclose(train(8)[0][:4], train(8, other)[0][:4], atol=0.1)


@pytest.mark.parametrize('rows', [2, None])
def test_running_statistics_keep_nine_tenths(rows):
  # new = 0.9 * old + 0.1 * mean over groups of the group's mean (or variance)
  old = {'mean': np.array([1.0, 2, 3], np.float32), 'var': np.array([4.0, 5, 6], np.float32)}
  new = train(rows, variables={'batch_stats': old})[1]['batch_stats']
  groups = X.astype(float).reshape(-1, rows or 8, 4, 4, 3)
  mean, var = groups.mean((1, 2, 3)).mean(0), groups.var((1, 2, 3)).mean(0)
  np.testing.assert_allclose(new['mean'], 0.9 * old['mean'] + 0.1 * mean, rtol=1e-5)
  np.testing.assert_allclose(new['var'], 0.9 * old['var'] + 0.1 * var, rtol=1e-5)


def test_evaluation_uses_the_running_statistics_and_leaves_them():
  stats = {'mean': np.array([1.0, 2, 3], np.float32), 'var': np.array([4.0, 9, 0.25], np.float32)}
  out, after = GroupedBatchNorm().apply({'batch_stats': stats}, jnp.array(X), NO_CHANGE, NO_CHANGE,
                                        False, mutable=['batch_stats'])
  np.testing.assert_allclose(out, (X - stats['mean']) / np.sqrt(stats['var'] + 1e-5), rtol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, dict(after['batch_stats']), stats)


def test_initialisation_does_not_count_as_a_step():
  variables = GroupedBatchNorm().init(jax.random.key(0), jnp.array(X), NO_CHANGE, NO_CHANGE, True)
  jax.tree.map(np.testing.assert_array_equal, variables, FRESH)      # and there are no parameters


def test_a_group_that_does_not_divide_the_batch_is_the_users_mistake():
  with pytest.raises(UserError, match='bn_group_size=3: does not divide the batch size 8'):
    train(3)


def test_statistics_are_float32_under_bfloat16():
  x = jnp.array(100 + X, jnp.bfloat16)
  out, after = train(None, x)
  assert out.dtype == jnp.bfloat16
  assert all(v.dtype == jnp.float32 for v in jax.tree.leaves(after))
  np.testing.assert_allclose(out, slow_norm(np.asarray(x, np.float32), 8), rtol=1e-2, atol=1e-2)


def filled(module, x, condition):
  init = lambda *args: module.init(*args, True)
  return toys.fill(jax.eval_shape(init, jax.random.key(0), x, condition))


def test_conditional_norm_scales_by_one_plus_gamma_and_adds_beta():
  condition = toys.normal(1, 8, 5)
  module = ConditionalNorm(4)
  variables = filled(module, X, condition)
  out, _ = module.apply(variables, jnp.array(X), jnp.array(condition), True,
                        mutable=['batch_stats'])
  gamma, beta = (condition @ p['kernel'] + p['bias']
                 for p in (variables['params'][k] for k in ('gamma', 'beta')))
  slow = slow_norm(X, 4) * (1 + gamma[:, None, None]) + beta[:, None, None]
  np.testing.assert_allclose(out, slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('impl', [FAST, REFERENCE])
def test_local_conditional_norm_does_so_at_every_pixel(impl):
  condition = toys.normal(1, 8, 2, 2, 5)
  module = LocalConditionalNorm(None, impl)
  variables = filled(module, X, condition)
  out, _ = module.apply(variables, jnp.array(X), jnp.array(condition), True,
                        mutable=['batch_stats'])
  gamma, beta = (condition @ p['kernel'] + p['bias']
                 for p in (variables['params'][k] for k in ('gamma', 'beta')))
  normalized = slow_norm(X, 8)
  for i in range(4):
    for j in range(4):
      slow = normalized[:, i, j] * (1 + gamma[:, i // 2, j // 2]) + beta[:, i // 2, j // 2]
      np.testing.assert_allclose(out[:, i, j], slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('side, factor', [(1, 1), (1, 4), (2, 2), (4, 1)])
@pytest.mark.parametrize('groups', [1, 3])
def test_folded_norm_and_its_gradients_are_the_plain_ones(side, factor, groups):
  k = side * factor
  x = 3 + 2 * toys.normal(0, 2 * groups, k, k, 5)
  gamma, beta = (toys.normal(i, 2 * groups, side, side, 5) for i in (1, 2))

  def pulled(form):
    (out, mean, var), vjp_fn = jax.vjp(lambda *args: form(*args, 2, 1e-5), x, gamma, beta)
    zero = jnp.zeros_like(mean)
    return out, mean, var, vjp_fn((jnp.array(toys.normal(3, *x.shape)), zero, zero))

  folded, plain = jax.jit(lambda: tuple(map(pulled, norm.NORMALIZED.values())))()[::-1]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), folded, plain)


@pytest.mark.parametrize('side', [1, 2, 4])
def test_gradients_of_the_local_norm_are_the_plain_ones(side):
  condition = jnp.array(toys.normal(1, 8, side, side, 5))
  params = filled(LocalConditionalNorm(), X, condition)['params']

  def pulled(impl):
    def apply(params, x, condition):
      variables = {'params': params, 'batch_stats': {'norm': FRESH['batch_stats']}}
      return LocalConditionalNorm(2, impl).apply(variables, x, condition, True,
                                                 mutable=['batch_stats'])[0]
    out, vjp_fn = jax.vjp(apply, params, jnp.array(X), condition)
    return out, vjp_fn(jnp.array(toys.normal(2, *X.shape)))

  fast, plain = jax.jit(lambda: (pulled(FAST), pulled(REFERENCE)))()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), fast, plain)
