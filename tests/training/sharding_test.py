"""A state divided among devices trains as a whole one does, in less memory, and is restored."""
import functools

import jax
import numpy as np
import optax
import pytest
import toys

from xmc_jax import methods
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.training.mesh import make_mesh, put_rows
from xmc_jax.training.program import Program

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def make(text_folder):
  @functools.cache
  def program(shard, devices=8):
    config = toys.quick_config(text_folder)
    config.model.width = 32
    method = methods.build(config)
    # With momentum, so that there is an optimiser's state; not Adam, see devices_test.py.
    return method, Program(method.objective, {n: optax.sgd(1e-3, momentum=0.9) for n in 'gd'}, 0.9,
                           method.frozen_spec, method.batch_spec,
                           make_mesh(jax.devices()[:devices]), shard)
  return program


@pytest.fixture(scope='module')
def train(make):
  @functools.cache
  def run(shard):
    method, program = make(shard)
    step, frozen = program.compile(), program.put_frozen(method.load_frozen())
    state = toys.state(program)
    for i in range(2):
      state, metrics = step(state, frozen, put_rows(toys.batch(method.batch_spec, i), program.rows))
    return state, jax.device_get(metrics), step.memory()
  return run


def share(tree):
  """Share of a tree's numbers that one of the devices holds."""
  leaves = jax.tree.leaves(tree)
  held = sum(np.prod(x.sharding.shard_shape(x.shape)) for x in leaves)
  return held / sum(x.size for x in leaves)


@pytest.mark.parametrize('shard, params, rest', [
    ('nothing', 1, 1), ('optimizer', 1, 0.4), ('parameters', 0.4, 0.4)])
def test_what_a_device_holds(make, shard, params, rest):
  state = make(shard)[1].state_spec
  network = state.networks['g']
  for tree, most in ((network.params, params), (network.opt_state, rest), (state.ema, rest)):
    assert (share(tree) == 1) == (most == 1) and share(tree) <= most
  assert share(network.stats) == share(state.networks['d'].stats) == 1
  assert share(state.networks['d'].params) <= params


def test_training_is_the_same_with_less_to_hold(train, make):
  whole, whole_metrics, whole_memory = train('nothing')
  state, metrics, memory = train('parameters')
  host = lambda state: jax.device_get((state.networks, state.ema))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
               host(state), host(whole))
  for name, value in whole_metrics.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
  assert memory.arguments < 0.8 * whole_memory.arguments
  places = lambda state: jax.tree.map(lambda x: x.sharding, state)
  assert places(state) == places(make('parameters')[1].state_spec)


def test_a_divided_state_is_restored_on_other_devices(train, make, tmp_path):
  state = train('parameters')[0]
  with Checkpoints(tmp_path, every=1) as checkpoints:
    checkpoints.save(2, state, {})
    checkpoints.wait()
    for other in (make('nothing', 1)[1], make('optimizer', 2)[1]):
      restored = checkpoints.restore(other.state_spec)
      plain = lambda s: jax.device_get(s.replace(rng=jax.random.key_data(s.rng)))
      jax.tree.map(np.testing.assert_array_equal, plain(restored), plain(state))


def test_init_makes_the_same_numbers_wherever_they_lie(make):
  states = [make(shard)[1].init(3) for shard in ('nothing', 'parameters')]
  params = [jax.device_get(state.networks['g'].params) for state in states]
  jax.tree.map(np.testing.assert_array_equal, *params)
