"""The number of devices changes nothing: three steps on one and on eight give the same numbers.

SGD, not Adam: a bias in front of a normalisation has the gradient zero, and Adam would turn its
rounding noise into full-size steps.
"""
import functools

import jax
import numpy as np
import optax
import pytest
import toys

from xmc_jax import methods
from xmc_jax.training.mesh import make_mesh, put_rows
from xmc_jax.training.program import Program

pytestmark = pytest.mark.slow

STEPS = 3
GROUPS = pytest.mark.parametrize('bn_group_size', [None, 4])


@pytest.fixture(scope='module')
def train(text_folder):
  """(devices, bn_group_size) -> first state, state after three steps, metrics, compiled step."""
  @functools.cache
  def run(devices, bn_group_size):
    config = toys.tiny_config(text_folder)
    config.model.bn_group_size = bn_group_size
    method = methods.build(config)
    program = Program(method.objective, {name: optax.sgd(1e-2) for name in 'gd'}, 0.9,
                      method.frozen_spec, method.batch_spec, make_mesh(jax.devices()[:devices]))
    compiled = program.compile()
    frozen, state = program.put_frozen(method.load_frozen()), toys.state(program)
    host = lambda state: jax.device_get((state.networks, state.ema))
    first = host(state)
    for step in range(STEPS):
      batch = put_rows(toys.batch(method.batch_spec, step), program.rows)
      state, metrics = compiled(state, frozen, batch)
    return first, host(state), jax.device_get(metrics), compiled
  return run


@GROUPS
def test_eight_devices_are_one(train, bn_group_size):
  first, one, one_metrics, _ = train(1, bn_group_size)
  _, eight, eight_metrics, _ = train(8, bn_group_size)
  for network in 'gd':
    assert toys.largest(one[0][network].params, first[0][network].params) > 1e-2     # it learnt
    assert toys.largest(one[0][network], eight[0][network]) < 1e-5
  assert toys.largest(one[1], eight[1]) < 1e-5
  for name, value in one_metrics.items():
    np.testing.assert_allclose(eight_metrics[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


def test_groups_are_not_the_whole_batch(train):
  assert toys.largest(train(8, None)[1][0]['g'].params, train(8, 4)[1][0]['g'].params) > 1e-4


@GROUPS
def test_images_and_regions_stay_where_they_are(train, bn_group_size):
  # 8 rows of 6 words of 8 features are the largest array that may travel; a region map of one row
  # alone has 256 * 8 numbers.
  moved = [each for run in train(8, bn_group_size)[3].rounds for each in toys.collectives(run)]
  assert moved and max(np.prod(shape) for _, shapes in moved for shape in shapes) <= 8 * 6 * 8
