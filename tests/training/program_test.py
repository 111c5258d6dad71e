"""The compiled step of the XMC-GAN method on eight devices: what it moves, holds and reuses."""
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from xmc_jax import methods
from xmc_jax.losses.matching import word_loss, word_scores, word_scores_reference
from xmc_jax.training import program as programs
from xmc_jax.training.mesh import by_row, make_mesh, put_rows, replicated
from xmc_jax.training.objective import Objective, Outcome, Phase
from xmc_jax.training.optim import make_optimizers
from xmc_jax.training.program import Program, Step

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def method(text_folder):
  return methods.build(toys.tiny_config(text_folder))


@pytest.fixture(scope='module')
def program(method):
  optimizers = make_optimizers({name: dict(lr=1e-3, b1=0.5, b2=0.999) for name in 'gd'})
  return Program(method.objective, optimizers, 0.9, method.frozen_spec, method.batch_spec,
                 make_mesh())


@pytest.fixture(scope='module')
def lowered(program):
  return [run.lower() for run in program.trace()]


@pytest.fixture(scope='module')
def compiled(program):
  return program.compile()


def arguments(program, method, frozen=None):
  """A fresh state (the step consumes it), frozen weights and a batch, on the devices."""
  frozen = program.put_frozen(frozen or method.load_frozen())
  batch = put_rows(toys.batch(method.batch_spec), program.rows)
  return jax.block_until_ready((toys.state(program), frozen, batch))


def test_words_travel_but_images_and_regions_stay(compiled, method):
  rows, length = method.batch_spec['tokens'].shape[1:]
  words = rows * length * toys.TEXT_FEATURES
  moved = [each for run in compiled.rounds for each in toys.collectives(run)]
  assert ('all-gather', [(rows, length, toys.TEXT_FEATURES)]) in moved
  # Smaller than the regions of one image, 256 x 8, and than one image, 32 x 32 x 3.
  assert words < 256 * toys.TEXT_FEATURES < 32 * 32 * 3
  assert max(np.prod(shape) for _, shapes in moved for shape in shapes) <= words


def test_captions_scored_in_chunks_travel_and_regions_stay():
  mesh, b = make_mesh(), 16
  loss = lambda r, w, m: word_loss(r, w, m, lambda *xs: word_scores(*xs, chunk=4))
  text = toys.text(rows=b)
  inputs = jax.device_put((toys.normal(5, b, 256, 8), text.words, text.mask),
                          by_row(mesh, rounds=False))
  step = jax.jit(jax.value_and_grad(loss)).lower(*inputs).compile()
  moved = toys.collectives(step)
  assert moved and max(np.prod(shape) for _, shapes in moved for shape in shapes) <= b * 6 * 8
  value, grad = step(*inputs)
  reference = lambda *inputs: word_loss(*inputs, word_scores_reference)
  value_plain, grad_plain = jax.jit(jax.value_and_grad(reference))(*jax.device_get(inputs))
  np.testing.assert_allclose(value, value_plain, rtol=1e-4)
  np.testing.assert_allclose(grad, grad_plain, rtol=1e-3, atol=1e-5)


def large_constants(lowered):
  """Types of the constants of a lowered program that have more than 64 different numbers."""
  found = re.findall(r'dense<(\[|"0x).*: tensor<([\dx]*)x\w+>', lowered.as_text())
  found += [('', shape) for shape in re.findall(r'dense_resource<.*: tensor<([\dx]*)x\w+>',
                                                lowered.as_text())]
  return [s for _, s in found if np.prod([int(n) for n in s.split('x')]) > 64]


def test_large_constants_are_seen():
  table = np.arange(200, dtype=np.float32)
  assert large_constants(jax.jit(lambda x: x + table).lower(table)) == ['200']
  assert large_constants(jax.jit(lambda x: x + 1).lower(table)) == []


def test_frozen_weights_are_arguments_and_no_constants(lowered):
  for run in lowered:
    assert large_constants(run) == []
    _, frozen, _ = run.args_info[0]
    assert sum(np.prod(x.shape) for x in jax.tree.leaves(frozen)) > 500


def test_the_state_is_donated_and_its_memory_reused(program, compiled, method):
  state, frozen, batch = arguments(program, method)
  leaves = len(jax.tree.leaves(state))
  last = (
    compiled.rounds[-1].as_text().splitlines()[0]
  )  # the discriminator's round leaves most alone
  aliases = re.findall(r'\{(\d+)\}: \((\d+), \{\}', last)
  assert aliases == [(str(i), str(i)) for i in range(leaves)]
  compiled(state, frozen, batch)
  assert all(x.is_deleted() for x in jax.tree.leaves(state))
  assert not any(x.is_deleted() for x in jax.tree.leaves((frozen, batch)))


def test_a_step_transfers_nothing_and_returns_what_it_takes(program, compiled, method):
  state, frozen, batch = arguments(program, method)
  with jax.transfer_guard('disallow'):
    for _ in range(2):
      state, metrics = compiled(state, frozen, batch)
  assert state.step == 2
  assert jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), state) == jax.tree.map(
      lambda x: (x.shape, x.dtype, x.sharding), program.state_spec)
  assert all(x.shape == () and np.isfinite(x) for x in metrics.values())


def test_other_frozen_weights_give_another_step_of_the_same_program(program, compiled, method):
  frozen = method.load_frozen()
  _, first = compiled(*arguments(program, method, frozen))
  _, again = compiled(*arguments(program, method, frozen))
  _, other = compiled(*arguments(program, method, jax.tree.map(lambda x: 1 - x, frozen)))
  assert first == again and first['discriminator/d/word'] != other['discriminator/d/word']


def test_memory_is_that_of_the_largest_round(compiled):
  found = [run.memory_analysis() for run in compiled.rounds]
  assert len(found) == 2
  assert compiled.memory() == max(
      ((x.argument_size_in_bytes, x.temp_size_in_bytes) for x in found), key=sum)


@pytest.mark.parametrize('rounds, memory', [
    ([(3, 9), (10, 1)], (3, 9)), ([(3, 7), (10, 1)], (10, 1)), ([(3, 7), None], None)])
def test_memory_by_hand(rounds, memory):
  fake = lambda found: types.SimpleNamespace(
    memory_analysis=lambda: (
      found and types.SimpleNamespace(argument_size_in_bytes=found[0], temp_size_in_bytes=found[1])
    )
  )
  assert Step([fake(found) for found in rounds], []).memory() == memory


def test_training_reads_no_text_of_a_program():
  text = types.SimpleNamespace(
      memory_analysis=lambda: types.SimpleNamespace(argument_size_in_bytes=1, temp_size_in_bytes=2))
  assert Step([text], []).memory() == (1, 2)      # there is no `as_text` to call


def test_parameters_are_counted_by_network_from_shapes(program):
  count = lambda name: sum(
    x.size for x in jax.tree.leaves(program.state_spec.networks[name].params)
  )
  assert programs.parameters(program.state_spec) == {'g': count('g'), 'd': count('d')}


def test_init_gives_the_state_of_its_spec_and_of_its_seed():
  def forward(params, stats, frozen, batch, rng):
    return Outcome({'g': jnp.sum(params['g']['w'] * batch['x'])}, {}, {})
  init = lambda rng, batch: {'g': {'params': {'w': jax.random.normal(rng, batch['x'].shape[1:])}}}
  objective = Objective(((Phase('only', ('g',), forward),),), init, ('g',))
  x = jax.ShapeDtypeStruct((1, 8, 3), jnp.float32)
  states = []
  for devices in (1, 8):
    program = Program(objective, {'g': optax.adam(0.1)}, 0.9, {}, {'x': x},
                      make_mesh(jax.devices()[:devices]))
    state = program.init(1)
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), state) == jax.tree.map(
        lambda x: (x.shape, x.dtype, x.sharding), program.state_spec)
    assert state.step.sharding == replicated(program.mesh) and state.step == 0
    states.append(np.asarray(state.networks['g'].params['w']))
  np.testing.assert_array_equal(*states)
  assert not np.array_equal(states[0], program.init(2).networks['g'].params['w'])


def test_a_debugger_can_stop_inside_a_loss():
  """With JAX_DISABLE_JIT the losses see arrays, not tracers, and the step is the same."""
  traced = []

  def forward(params, stats, frozen, batch, rng):
    traced.append(isinstance(batch['x'], jax.core.Tracer))
    return Outcome({'g': jnp.sum(params['g']['w'] * batch['x'])}, {}, {})
  objective = Objective(((Phase('only', ('g',), forward),),),
                        lambda rng, batch: {'g': {'params': {'w': jnp.ones(3)}}}, ('g',))
  found = []
  for disabled in (False, True):
    with jax.disable_jit(disabled):
      x = jax.ShapeDtypeStruct((1, 8, 3), jnp.float32)
      program = Program(objective, {'g': optax.sgd(0.1)}, 0.9, {}, {'x': x},
                        make_mesh(jax.devices()[:1]))
      step = program.compile()
      traced.clear()
      batch = put_rows({'x': toys.normal(0, 1, 8, 3)}, program.rows)
      state, _ = step(program.init(0), {}, batch)
      assert traced == ([False] if disabled else [])
      found.append(np.asarray(state.networks['g'].params['w']))
  np.testing.assert_allclose(*found, rtol=1e-6)
