"""Networks on each device's own examples: same numbers, and one exchange of their gradients."""
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.per_device import per_device
from xmc_jax.layers.resample import conv_before_pool_parity
from xmc_jax.training.mesh import by_row, make_mesh, replicated

KERNEL = toys.normal(0, 3, 3, 4, 5)
MAPS = toys.normal(1, 16, 8, 8, 4), toys.normal(2, 16, 8, 8, 4)
WEIGHTS = toys.normal(3, 16, 4, 4, 5)


def network(kernel, maps):
  return tuple(conv_before_pool_parity(x, kernel) for x in maps)


def slope(run):
  """The gradient of a loss of both maps in the kernel."""
  def loss(kernel, maps):
    first, second = run(kernel, maps)
    return jnp.vdot(WEIGHTS, first) + jnp.vdot(WEIGHTS, jnp.square(second))
  return jax.grad(loss)


def on_eight(f):
  """`f(kernel, maps)` compiled for eight devices, and its arguments on them."""
  mesh = make_mesh(jax.devices()[:8])
  places = replicated(mesh), by_row(mesh, rounds=False)
  args = jax.device_put((KERNEL, MAPS), places)
  return jax.jit(f, out_shardings=places[0]).lower(*args).compile(), args


def exchanged(compiled):
  """The shapes of all arrays in the all-reduces of a compiled program, without numbers of one."""
  found = re.findall(r'= (.*?) all-reduce\(', compiled.as_text())
  return [shape for result in found for shape in re.findall(r'\[([\d,]+)\]', result)]


def test_result_and_gradient_are_those_of_the_plain_call():
  run = lambda kernel, maps: per_device(network, kernel, maps)
  compiled, args = on_eight(run)
  for found, wanted in zip(compiled(*args), network(KERNEL, MAPS)):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
  compiled, args = on_eight(slope(run))
  np.testing.assert_allclose(compiled(*args), slope(network)(KERNEL, MAPS), rtol=1e-4, atol=1e-3)


def test_devices_exchange_one_sum_of_both_calls_in_the_shape_of_the_kernel():
  assert exchanged(on_eight(slope(lambda *args: per_device(network, *args)))[0]) == ['3,3,4,5']


@pytest.mark.parametrize('devices', [None, 1])
def test_one_device_makes_a_plain_call(devices):
  if devices:
    mesh = make_mesh(jax.devices()[:devices])
    args = jax.device_put((KERNEL, MAPS), replicated(mesh))
  else:
    args = KERNEL, MAPS
  assert 'shard_map' not in str(jax.make_jaxpr(lambda *args: per_device(network, *args))(*args))


def test_the_gradient_of_one_call_is_folded_before_it_is_exchanged():
  compiled, _ = on_eight(jax.grad(
      lambda kernel, maps: jnp.vdot(WEIGHTS, conv_before_pool_parity(maps[0], kernel))))
  assert exchanged(compiled) == ['3,3,4,5']
