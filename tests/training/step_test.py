"""The training step with toy networks that write down how they are called."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from xmc_jax.training.objective import Objective, Outcome, Phase, SharedFakes
from xmc_jax.training.state import init_state
from xmc_jax.training.step import averaging, in_turn, make_rounds, run_phase

pytestmark = pytest.mark.usefixtures('strict')

ROWS = 4
RATES = {'g': 0.5, 'd': 0.25}
FROZEN = {'shift': jnp.float32(10)}


class Toy:
  """Two networks of one number each, and a phase that records its calls.

  Losses: g = mean(x) * g * d, d = -d * g, so every gradient is known; statistics count forwards.
  """

  def __init__(self):
    self.calls = []

  def phase(self, name, updates, losses=None):
    def forward(params, stats, frozen, batch, rng):
      g, d, mean = params['g']['w'], params['d']['w'], batch['x'].mean()
      self.calls.append(dict(name=name, rows=batch['x'].tolist(), frozen=frozen, g=float_of(g),
                             d=float_of(d), key=jax.random.key_data(rng).tolist(), stats=stats))
      values = {'g': mean * g * d, 'd': -d * g}
      return Outcome({k: values[k] for k in losses or updates},
                     {'g': {'count': stats['g']['count'] + 1}}, {'seen': mean})
    return Phase(name, updates, forward)

  def init(self, rng, batch):
    self.initial = batch
    return {'g': {'params': {'w': jnp.float32(3)}, 'count': jnp.int32(0)},
            'd': {'params': {'w': jnp.float32(2)}, 'count': jnp.int32(7)}}

  def objective(self, rounds, averaged=('g',)):
    return Objective(rounds, self.init, averaged)


def float_of(x):
  """The value of a number under differentiation."""
  return float(jax.lax.stop_gradient(getattr(x, 'primal', x)))


def sgd():
  return {name: optax.sgd(rate) for name, rate in RATES.items()}


def start(objective, seed=0):
  return init_state(objective, sgd(), jax.random.key(seed), {'x': jnp.zeros(ROWS)})


def batch(rounds=2):
  return {'x': jnp.arange(1, rounds * ROWS + 1, dtype=jnp.float32).reshape(rounds, ROWS)}


def weights(state):
  return {name: float(p.params['w']) for name, p in state.networks.items()}


@pytest.fixture
def toy():
  return Toy()


@pytest.fixture
def two_rounds(toy):
  """The discriminator alone on the first rows, then both on the second."""
  return toy.objective(((toy.phase('discriminator', ('d',)),), (toy.phase('joint', ('d', 'g')),)))


def test_one_forward_per_phase_each_on_its_rounds_rows(toy, two_rounds):
  in_turn(make_rounds(two_rounds, sgd(), 0.9))(start(two_rounds), FROZEN, batch())
  assert [(c['name'], c['rows']) for c in toy.calls] == [
      ('discriminator', [1, 2, 3, 4]), ('joint', [5, 6, 7, 8])]
  assert all(c['frozen'] is FROZEN for c in toy.calls)


def test_phases_of_a_round_share_rows_and_rng(toy):
  objective = toy.objective(((toy.phase('d', ('d',)), toy.phase('penalty', ('d',)),
                              toy.phase('g', ('g',))),))
  in_turn(make_rounds(objective, sgd(), 0.9))(start(objective), FROZEN, batch(1))
  assert [c['name'] for c in toy.calls] == ['d', 'penalty', 'g']
  assert all(c['rows'] == [1, 2, 3, 4] and c['key'] == toy.calls[0]['key'] for c in toy.calls)


def test_each_phase_changes_only_its_players_and_the_next_sees_it(toy, two_rounds):
  state = start(two_rounds)
  discriminator, joint = (phases[0] for phases in two_rounds.rounds)
  rows = {'x': batch()['x'][1]}                                  # their mean is 6.5
  # d: gradient -g = -3, rate 0.25: 2 -> 2.75.
  state, metrics = run_phase(discriminator, sgd(), state, FROZEN, rows, jax.random.key(1))
  assert weights(state) == {'g': 3, 'd': 2.75}
  assert metrics == {
    'discriminator/d_loss': -6,
    'discriminator/d_grad_max': 3,
    'discriminator/seen': 6.5,
  }
  # Both from one forward pass: g: 6.5 * d = 17.875, rate 0.5: 3 -> -5.9375; d: -3 again, by the
  # *old* g: 2.75 -> 3.5. Neither network sees the other's loss: g's would add -d, d's 6.5 * g.
  state, metrics = run_phase(joint, sgd(), state, FROZEN, rows, jax.random.key(1))
  assert weights(state) == {'g': -5.9375, 'd': 3.5}
  assert metrics == {'joint/g_loss': 6.5 * 3 * 2.75, 'joint/d_loss': -8.25, 'joint/seen': 6.5,
                     'joint/g_grad_max': 17.875, 'joint/d_grad_max': 3}
  assert [(c['g'], c['d']) for c in toy.calls] == [(3, 2), (3, 2.75)]


def test_a_loss_of_a_player_that_is_not_updated_moves_nothing(toy):
  phase = toy.phase('d', ('d',), losses=('g', 'd'))
  state, metrics = run_phase(phase, sgd(), start(toy.objective(((phase,),))), FROZEN,
                             {'x': batch()['x'][1]}, jax.random.key(1))
  assert weights(state) == {'g': 3, 'd': 2.75} and 'd/g_loss' in metrics


# The square of the last is infinite.
@pytest.mark.parametrize('bad', [jnp.nan, jnp.inf, 2e19])
@pytest.mark.parametrize('network', ['g', 'd'])
def test_a_gradient_that_is_not_finite_changes_no_weight_and_shows_in_the_metrics(
  toy, network, bad
):
  # The loss itself stays finite: only its gradient norm is bad.
  def forward(params, stats, frozen, batch, rng):
    grad_norm_sq = {n: jnp.where(n == network, bad, 1.0) for n in 'gd'}
    losses = {
      n: grad_norm_sq[n] * (params[n]['w'] - jax.lax.stop_gradient(params[n]['w'])) for n in 'gd'
    }
    return Outcome({n: jnp.nan_to_num(v) * 0 + v for n, v in losses.items()}, {}, {})
  phase = Phase('joint', ('d', 'g'), forward)
  optimizers = {name: optax.sgd(0.1, momentum=0.9) for name in 'gd'}
  state = init_state(toy.objective(((phase,),)), optimizers, jax.random.key(0), {'x': batch()['x']})
  after, metrics = run_phase(phase, optimizers, state, FROZEN, {'x': batch()['x'][1]},
                             jax.random.key(1))
  assert weights(after) == weights(state) == {'g': 3, 'd': 2}
  jax.tree.map(np.testing.assert_array_equal, after.networks, state.networks)
  assert not np.isfinite(metrics[f'joint/{network}_grad_max'])


@pytest.fixture(name='sharing')
def _sharing(toy):
  """Discriminator and generator that share a shared: v = g^2 mean(x). Losses -d v, and d v + g."""
  def run(params, stats, frozen, batch, rng):
    toy.calls.append(stats['g']['count'])
    return params['g']['w'] ** 2 * batch['x'].mean(), {'count': stats['g']['count'] + 1}

  def losses(network):
    def forward(params, stats, frozen, batch, rng, generated):
      toy.calls.append(stats['g']['count'])
      g, d = params['g']['w'], params['d']['w']
      return Outcome(
        {network: {'d': -d * generated, 'g': d * generated + g}[network]}, {}, {'seen': generated}
      )

    return forward
  shared = SharedFakes('g', run)
  return toy.objective((tuple(Phase(name, (network,), losses(network), shared)
                              for name, network in (('discriminator', 'd'), ('generator', 'g'))),))


def test_phases_share_a_draw_that_runs_once_and_is_differentiated_for_its_player(toy, sharing):
  step = in_turn(make_rounds(sharing, sgd(), 0.9))
  state, metrics = step(start(sharing), FROZEN, batch(1))
  mean, g, d = float(batch(1)['x'].mean()), 3.0, 2.0
  d += RATES['d'] * g ** 2 * mean
  expected = {'d': d, 'g': g - RATES['g'] * (2 * d * g * mean + 1)}
  assert weights(state) == pytest.approx(expected, rel=1e-6)
  assert toy.calls == [0, 1, 1] and state.networks['g'].stats['count'] == 1
  assert metrics['discriminator/seen'] == metrics['generator/seen'] == g ** 2 * mean


def test_a_round_after_the_players_update_draws_again(toy, sharing):
  twice = toy.objective(sharing.rounds * 2)
  state, _ = in_turn(make_rounds(twice, sgd(), 0.9))(start(twice), FROZEN, batch(2))
  assert toy.calls == [0, 1, 1, 1, 2, 2] and state.networks['g'].stats['count'] == 2


def test_a_draw_of_weights_that_are_gone_is_refused(toy, sharing):
  (discriminator, generator), = sharing.rounds
  with pytest.raises(ValueError, match="phase 'discriminator': .* fakes of 'g'"):
    toy.objective(((generator, discriminator),))


def test_phases_share_the_same_fakes_or_none(toy, sharing):
  (discriminator, generator), = sharing.rounds
  others = SharedFakes('g', lambda *given: generator.shared.run(*given))
  with pytest.raises(ValueError, match='different fakes'):
    toy.objective(((discriminator, dataclasses.replace(generator, shared=others)),))


def test_statistics_are_taken_from_the_outcome_and_kept_where_it_has_none(toy, two_rounds):
  step, state = in_turn(make_rounds(two_rounds, sgd(), 0.9)), start(two_rounds)
  state, _ = step(state, FROZEN, batch())
  assert [c['stats']['g']['count'] for c in toy.calls] == [0, 1]
  assert (state.networks['g'].stats['count'], state.networks['d'].stats['count']) == (2, 7)


def test_step_counter_and_metrics_names(two_rounds):
  step, state = in_turn(make_rounds(two_rounds, sgd(), 0.9)), start(two_rounds)
  assert state.step == 0 and state.step.dtype == jnp.int32
  for n in (1, 2):
    state, metrics = step(state, FROZEN, batch())
    assert state.step == n
  of = lambda phase, network: {f'{phase}/{network}_{k}' for k in ('loss', 'grad_max')}
  assert metrics.keys() == {
    'discriminator/seen',
    'joint/seen',
    *of('discriminator', 'd'),
    *of('joint', 'd'),
    *of('joint', 'g'),
  }


def test_average_follows_its_formula_once_a_step(two_rounds):
  step, state = in_turn(make_rounds(two_rounds, sgd(), 0.2)), start(two_rounds)
  expected = 3.0
  assert state.ema.keys() == {'g'} and state.ema['g']['w'] == expected
  for decay in (1 / 10, 2 / 11, 0.2, 0.2):
    state, _ = step(state, FROZEN, batch())
    expected = decay * expected + (1 - decay) * weights(state)['g']
    np.testing.assert_allclose(state.ema['g']['w'], expected, rtol=1e-5)


def test_the_average_forgets_the_start_and_keeps_the_decay_of_a_long_run():
  decays = [float(averaging(jnp.int32(step), 0.999)) for step in (0, 99, 8_989, 8_990, 1_000_000)]
  np.testing.assert_allclose(decays, [0.1, 100 / 109, 8_990 / 8_999, 0.999, 0.999], rtol=1e-6)
  assert averaging(jnp.int32(5), 0.0) == 0


def test_the_average_starts_as_a_copy_that_can_be_donated_beside_the_parameters(two_rounds):
  state = start(two_rounds)
  assert state.ema['g']['w'] is not state.networks['g'].params['w']


def test_rng_differs_between_rounds_steps_and_seeds_and_not_otherwise(toy, two_rounds):
  step = in_turn(make_rounds(two_rounds, sgd(), 0.9))

  def keys(seed):
    toy.calls.clear()
    state = start(two_rounds, seed)
    for _ in range(2):
      state, _ = step(state, FROZEN, batch())
    return [tuple(c['key']) for c in toy.calls]
  first = keys(0)
  assert first == keys(0) and len(set(first + keys(1))) == 8


def test_a_resumed_step_draws_what_the_straight_one_drew(toy, two_rounds):
  step = in_turn(make_rounds(two_rounds, sgd(), 0.9))
  middle, _ = step(start(two_rounds), FROZEN, batch())
  straight, _ = step(middle, FROZEN, batch())
  generated = [c['key'] for c in toy.calls[2:]]
  again, _ = step(jax.tree.map(lambda x: x, middle), FROZEN, batch())
  assert [c['key'] for c in toy.calls[4:]] == generated and weights(again) == weights(straight)


def test_players_are_named_once_in_the_order_of_their_first_update(two_rounds):
  assert two_rounds.networks == ('d', 'g')


def test_optimiser_state_is_each_players_own(toy):
  # Momentum 0.5, rate 1: the trace of d's gradient -3 (g is never updated) is -3, then -4.5.
  phase = toy.phase('d', ('d',))
  optimizers = {name: optax.sgd(1.0, momentum=0.5) for name in 'gd'}
  objective = toy.objective(((phase,),))
  state = init_state(objective, optimizers, jax.random.key(0), {'x': jnp.zeros(ROWS)})
  step = in_turn(make_rounds(objective, optimizers, 0.9))
  for d in (2 + 3, 2 + 3 + 4.5):
    state, _ = step(state, FROZEN, batch(1))
    assert weights(state) == {'g': 3, 'd': d}
