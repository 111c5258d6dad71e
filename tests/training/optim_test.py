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


@pytest.mark.parametrize('own, told', [
    (dict(warm_up=5), r'--config.optim.g.warm_up: it is unknown; the keys are b1, b2, clip, decay'),
    (dict(clip=dict(norm=1.0)), '--config.optim.g.clip: the key of is missing'),
    (dict(decay=dict(rate=0.5, every=2, least=0.1, after=3)), '--config.optim.g.decay.after')])
def test_keys_that_are_not_known_or_missing_are_told(own, told):
  with pytest.raises(UserError, match=told):
    optim.check_keys({'g': dict(lr=0.1, b1=0.9, b2=0.98, **own)})
