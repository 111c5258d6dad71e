"""Rates of learning and clipped gradients."""
import jax
import numpy as np
import optax
import pytest

from xmc_jax.training import optim
from xmc_jax.types import UserError


def test_the_rate_decays_to_its_least_and_the_text_encoder_alone_is_clipped():
  spec = dict(lr=2e-3, b1=0.5, b2=0.999, decay=dict(rate=0.98, every=184, least=2e-4),
              clip=dict(norm=0.25, of='captions'))
  optimizer = optim.make_optimizers({'encoder': spec})['encoder']
  params = {'captions': {'a': np.ones(4, np.float32), 'b': np.ones(())}, 'images': np.ones(4)}
  state = optimizer.init(params)
  # Adam's first step is the rate whatever the gradient's length, so look at its moments instead.
  grads = {'captions': {'a': np.full(4, 3.0, np.float32), 'b': np.float32(8)},
           'images': np.full(4, 3.0, np.float32)}
  _, after = optimizer.update(grads, state, params)
  moments = jax.tree.leaves(optax.tree_utils.tree_get(after, 'mu'))
  np.testing.assert_allclose(moments[0], 0.5 * 0.25 * 3 / 10, rtol=1e-5)  # of length 10
  np.testing.assert_allclose(moments[1], 0.5 * 0.25 * 8 / 10, rtol=1e-5)
  np.testing.assert_allclose(moments[2], 0.5 * 3, rtol=1e-5)
  rate = optim._decayed(2e-3, **spec['decay'])
  epochs = [float(rate(np.int32(184 * n))) for n in (0, 1, 113, 114, 500)]
  np.testing.assert_allclose(
      epochs, [2e-3 * 0.98 ** n for n in (0, 1, 113, 114, 114)], rtol=1e-5)
  assert float(rate(np.int32(183))) == pytest.approx(2e-3)


def test_the_rate_rises_evenly_to_its_full_height():
  params = {'a': np.ones(3, np.float32)}
  for decay, full in ({}, 0.1), ({'decay': dict(rate=0.5, every=5, least=0.01)}, 0.05):
    optimizer = optim.make_optimizers(
        {'encoder': dict(lr=0.1, b1=0.9, b2=0.98, warmup=4, **decay)})['encoder']
    state, lengths = optimizer.init(params), []
    for _ in range(7):      # of equal gradients Adam's steps are as long as the rate
      step, state = optimizer.update(params, state, params)
      lengths.append(-float(step['a'][0]))
    np.testing.assert_allclose(lengths, [0.025, 0.05, 0.075, 0.1, 0.1, full, full], rtol=1e-4)


@pytest.mark.parametrize('lr, least, times', [(1e-4, 1e-6, 2), (2e-4, 2e-6, 2), (1e-4, 9e-7, 3)])
def test_the_rate_stops_as_soon_as_it_is_at_its_least(lr, least, times):
  rate = optim._decayed(lr, rate=0.1, every=1, least=least)
  assert float(rate(np.int32(100))) == pytest.approx(lr * 0.1 ** times)


def test_muon_moves_kernels_alike_in_all_directions_and_adam_the_rest():
  random = np.random.default_rng(0)
  rank_one = random.normal(size=(3, 3, 5, 1)) * random.normal(size=8)
  grads = {'conv': {'kernel': rank_one + 0.1 * random.normal(size=(3, 3, 5, 8)),
                    'bias': np.array([3.0, -0.01])},
           'last': {'conv': {'kernel': random.normal(size=(4, 2))}},
           # Of three axes nothing says which are the inputs.
           'attention': {'kernel': random.normal(size=(4, 2, 3))}}
  grads = jax.tree.map(lambda x: np.asarray(x, np.float32), grads)
  spec = dict(lr=0.1, b1=0.0, b2=0.9, muon=0.9, adam=('last',))
  optimizer = optim.make_optimizers({'g': spec})['g']
  step, state = optimizer.update(grads, optimizer.init(grads), grads)

  kernel = np.asarray(step['conv']['kernel']).reshape(45, 8)
  # Nearly orthogonal columns (Newton-Schulz leaves singular values between 0.7 and 1.2), along the
  # nearest orthogonal matrix, and of the length that is asked for.
  left, _, right = np.linalg.svd(grads['conv']['kernel'].reshape(45, 8), full_matrices=False)
  values = left.T @ -kernel @ right.T / (0.1 * optim.MUON_LENGTH * np.sqrt(45))
  np.testing.assert_allclose(values, np.eye(8), atol=0.35)
  assert np.linalg.cond(grads['conv']['kernel'].reshape(45, 8)) > 10 > 2 > np.linalg.cond(kernel)
  # Adam's first step without momentum is the rate, whatever the gradient.
  np.testing.assert_allclose(step['conv']['bias'], [-0.1, 0.1], rtol=1e-4)
  for by_adam in (lambda tree: tree['last']['conv'], lambda tree: tree['attention']):
    np.testing.assert_allclose(by_adam(step)['kernel'], -0.1 * np.sign(by_adam(grads)['kernel']),
                               rtol=1e-4)

  opposite, _ = optimizer.update(jax.tree.map(lambda x: -0.3 * x, grads), state, grads)
  assert np.vdot(opposite['conv']['kernel'], step['conv']['kernel']) > 0     # by its momentum
  assert np.vdot(opposite['conv']['bias'], step['conv']['bias']) < 0


def test_a_module_that_adam_is_to_update_has_to_exist():
  params = {'first': {'kernel': np.ones((2, 3), np.float32)}}
  spec = dict(lr=0.1, b1=0.5, b2=0.9, muon=0.9, adam=('first', 'frist'))
  with pytest.raises(UserError, match='adam=frist names no module .* among first'):
    optim.make_optimizers({'g': spec})['g'].init(params)


def test_without_muon_all_is_adam():
  params = {'conv': {'kernel': np.ones((2, 3), np.float32)}}
  spec = dict(lr=0.1, b1=0.5, b2=0.9)
  states = [optim.make_optimizers({'g': {**spec, **own}})['g'].init(params)
            for own in ({}, {'muon': 0.0, 'adam': ('x',)})]
  assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])


@pytest.mark.parametrize('own, told', [
    (dict(warm_up=5), r'--config.optim.g.warm_up: it is unknown; the keys are adam, b1, b2, clip'),
    (dict(clip=dict(norm=1.0)), '--config.optim.g.clip: the key of is missing'),
    (dict(decay=dict(rate=0.5, every=2, least=0.1, after=3)), '--config.optim.g.decay.after')])
def test_keys_that_are_not_known_or_missing_are_told(own, told):
  with pytest.raises(UserError, match=told):
    optim.check_keys({'g': dict(lr=0.1, b1=0.9, b2=0.98, **own)})
