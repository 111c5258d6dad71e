"""Networks that see the rows in parts, losses that see all: the same step as in one piece."""
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from xmc_jax import describe, methods
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs, Text
from xmc_jax.training.mesh import make_mesh, put_rows
from xmc_jax.training.microbatches import Microbatches, check_microbatches, in_microbatches
from xmc_jax.training.program import Program
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow

ROWS = 16


def stage(params, stats, frozen, batch, rngs):
  """A network that mixes the two rows of each group and draws a number for each row."""
  x = params['w'] * batch['x'] + jax.vmap(lambda rng: jax.random.normal(rng, (3,)))(rngs)
  mean = x.reshape(-1, 2, 3).mean(1)
  x = x - jnp.repeat(mean, 2, 0)
  view = DiscriminatorOutput((x[:, 0],), x, x[:, None], x)
  text = Text(x[:, None], x[:, :1] > 0, x)
  return (ForwardOutputs(batch, text, (x,), view, view, None, x), {'mean': mean.mean(0)})


@pytest.mark.parametrize('count', [2, 4])
def test_rows_statistics_and_gradients_are_those_of_the_whole(count):
  batch, rngs = {'x': jnp.array(toys.normal(0, ROWS, 3))}, jax.random.split(jax.random.key(0), ROWS)
  weights = jnp.array(toys.normal(1, ROWS, ROWS))

  def run(count, w):
    outputs, stats = in_microbatches(stage, Microbatches(count, 2))({'w': w}, {}, {}, batch, rngs)
    features = outputs.d_fake.features
    return jnp.sum(weights * (features @ features.T)), (outputs, stats)   # a loss across all rows

  (loss, (outputs, stats)), grad = jax.value_and_grad(lambda w: run(1, w), has_aux=True)(2.0)
  (loss_in_parts, rest), grad_in_parts = jax.value_and_grad(lambda w: run(count, w),
                                                            has_aux=True)(2.0)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, (loss, grad, outputs, stats), (loss_in_parts, grad_in_parts, *rest))
  assert outputs.real_embedding is rest[0].real_embedding is None


def test_one_part_is_the_stage_itself():
  assert in_microbatches(stage, Microbatches()) is stage


@pytest.mark.parametrize(
  'parts, message',
  [
    (Microbatches(2, None), '--config.microbatches=2: .*--config.model.bn_group_size=8'),
    (Microbatches(2, 5), 'bn_group_size=5 .* multiple of 10'),
    (Microbatches(4, 8), 'multiple of 32'),
  ],
)
def test_parts_that_cannot_be_exact_are_refused(parts, message):
  with pytest.raises(UserError, match=message):
    check_microbatches(parts, ROWS)


def test_parts_that_can_pass():
  for parts in (
    Microbatches(),
    Microbatches(1, 8),
    Microbatches(2, 8),
    Microbatches(4, 4),
    Microbatches(16, 1),
  ):
    check_microbatches(parts, ROWS)


@pytest.fixture(scope='module')
def train(text_folder):
  """(devices, settings) -> networks and averages, metrics after two steps of SGD; program, step."""
  def run(devices, **settings):
    config = toys.tiny_config(text_folder)
    config.batch_size, config.model.bn_group_size, config.model.augment = ROWS, 4, ('translation',)
    config.update_from_flattened_dict(settings)
    method = methods.build(config)
    program = Program(method.objective, {name: optax.sgd(1e-2) for name in 'gd'}, 0.9,
                      method.frozen_spec, method.batch_spec, make_mesh(jax.devices()[:devices]))
    step, frozen = program.compile(), program.put_frozen(method.load_frozen())
    state = toys.state(program)
    for i in range(2):
      batch = put_rows(toys.batch(method.batch_spec, i), program.rows)
      state, metrics = step(state, frozen, batch)
    return jax.device_get((state.networks, state.ema)), jax.device_get(metrics), program, step
  return run


@pytest.fixture(scope='module')
def whole(train):
  return train(1)


@pytest.mark.parametrize('devices, settings', [
    (2, {'microbatches': 2}), (1, {'model.remat': 'blocks'})])
def test_a_training_in_parts_or_with_recomputing_is_the_same(train, whole, devices, settings):
  state, metrics, program, step = train(devices, **settings)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), state, whole[0])
  for name, value in whole[1].items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
  # The setting is not ignored: what is recomputed is counted.
  assert devices * describe.flops(program) > 1.02 * describe.flops(whole[2])
  if devices > 1:        # the parts are dealt so that images and regions stay where they are
    moved = [shape for round_ in step.rounds for _, shapes in toys.collectives(round_)
             for shape in shapes]
    assert moved and max(np.prod(shape) for shape in moved) <= ROWS * toys.LENGTH * 8


def test_parts_hold_less_and_compute_more():
  """Twelve layers without groups, and a loss that compares all rows."""
  def deep(params, stats, frozen, batch, rngs):
    x = batch['x']
    for weight in params['w']:
      x = jnp.tanh(x @ weight)
    view = DiscriminatorOutput((x[:, 0],), x, x[:, None], x)
    return ForwardOutputs(batch, Text(x[:, None], x[:, :1] > 0, x), (x,), view, view), {}

  def cost(count):
    def loss(params, batch):
      forward = in_microbatches(deep, Microbatches(count, 1))
      outputs, _ = forward(params, {}, {}, batch, jax.random.split(jax.random.key(0), 512))
      return jnp.square(outputs.d_fake.features.mean(0)).sum()
    run = jax.jit(jax.grad(loss)).trace({'w': jnp.zeros((12, 32, 32))}, {'x': jnp.zeros((512, 32))})
    one = types.SimpleNamespace(trace=lambda: [run], mesh=types.SimpleNamespace(size=1))
    return run.lower().compile().memory_analysis().temp_size_in_bytes, describe.flops(one)

  (whole, whole_flops), (parts, parts_flops) = cost(1), cost(4)
  assert parts < 0.5 * whole
  assert 1.2 < parts_flops / whole_flops < 2
