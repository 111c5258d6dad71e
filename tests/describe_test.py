"""FLOPs of a step against closed forms and XLA's account; what is told where a backend is mute."""
import types

import jax
import jax.numpy as jnp
import pytest

from xmc_jax import describe

X, W = jax.ShapeDtypeStruct((64, 96), jnp.float32), jax.ShapeDtypeStruct((96, 96), jnp.float32)
PRODUCT = 2 * 64 * 96 * 96                # of X @ W


def program(*functions, devices=1):
  """What stands for a training program whose rounds are `functions` of X and W."""
  return types.SimpleNamespace(trace=lambda: [jax.jit(f).trace(X, W) for f in functions],
                               mesh=types.SimpleNamespace(size=devices))


def scan(f, length, unroll=1):
  return lambda x, w: jax.lax.scan(lambda c, _: (f(c, w), None), x, None, length=length,
                                   unroll=unroll)[0]


LOOPS = {
    'none': (jnp.matmul, 1),
    'scan': (scan(jnp.matmul, 7), 7),
    'unrolled': (scan(jnp.matmul, 7, unroll=True), 7),
    'unrolled in part': (scan(jnp.matmul, 8, unroll=3), 8),
    'unrolled, length 1': (scan(jnp.matmul, 1), 1),
    'nested in an unrolled one': (scan(scan(jnp.matmul, 3), 5, unroll=2), 15),
    'fori_loop': (lambda x, w: jax.lax.fori_loop(3, 9, lambda i, c: c @ w, x), 6),
    'map': (lambda x, w: jax.lax.map(lambda y: y @ w, jnp.stack(5 * [x])), 5),
    'nested, beside': (lambda x, w: scan(scan(jnp.matmul, 3), 5)(x, w) @ w + x @ w, 17),
    'inside jit': (jax.jit(scan(jax.jit(scan(jnp.matmul, 3)), 2)), 6),
    # Forward; backward x and w.
    'gradient': (jax.grad(lambda x, w: scan(lambda c, w: jnp.tanh(c @ w), 4)(x, w).sum(), (0, 1)),
                 12),
    'in a branch': (lambda x, w: jax.lax.cond(x[0, 0] > 0, scan(jnp.matmul, 4), jnp.matmul, x, w),
                    4)}


@pytest.mark.parametrize('name', LOOPS)
def test_a_scan_counts_as_often_as_it_runs(name):
  f, products = LOOPS[name]
  # Besides the products: sums and tanh's derivative, at most 8 for every element of X a turn.
  assert 0 <= describe.flops(program(f)) - products * PRODUCT <= 8 * 64 * 96 * products


def test_rounds_add_up_and_devices_share():
  assert describe.flops(program(jnp.matmul, scan(jnp.matmul, 3), devices=2)) == pytest.approx(
      2 * PRODUCT, rel=1e-4)


def test_without_loops_it_is_the_account_of_xla():
  def f(x, w):
    image, kernel = x.reshape(2, 8, 8, 48), w.reshape(3, 4, 48, 16)[:, :3]
    out = jax.lax.conv_general_dilated(image, kernel, (2, 2), 'SAME',
                                       dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    return jax.nn.relu(out).sum()
  found = jax.jit(jax.value_and_grad(f, (0, 1))).lower(X, W)
  assert describe.flops(program(jax.value_and_grad(f, (0, 1)))) == pytest.approx(
      found.compile().cost_analysis()['flops'], rel=0.02)


@pytest.mark.parametrize('costs, memory, missing', [
    (None, None, {'bytes_accessed', 'argument_bytes', 'temp_bytes'}),
    ({'bytes accessed': 6.0}, None, {'argument_bytes', 'temp_bytes'}),
    ({'bytes accessed': 6.0}, types.SimpleNamespace(arguments=3, temporaries=4), set())])
def test_what_a_backend_does_not_report_is_missing(costs, memory, missing):
  step = types.SimpleNamespace(rounds=2 * [types.SimpleNamespace(cost_analysis=lambda: costs)],
                               memory=lambda: memory)
  cost = describe.step_cost(program(jnp.matmul), step)
  whole = {'flops': PRODUCT, 'bytes_accessed': 12, 'argument_bytes': 3, 'temp_bytes': 4}
  assert cost == {key: value for key, value in whole.items() if key not in missing}
  told = describe.table({'networks': {}, 'step': cost})
  assert 'at least' not in told
  assert ('memory traffic' in told) == (costs is not None) and ('MB' in told) == bool(memory)


def test_with_loops_the_memory_traffic_is_a_lower_bound():
  step = types.SimpleNamespace(
      rounds=[types.SimpleNamespace(cost_analysis=lambda: {'bytes accessed': 3e9})],
      memory=lambda: None)
  cost = describe.step_cost(program(scan(jnp.matmul, 7)), step)
  assert cost['loops'] == 1
  assert 'at least 3.0 GB' in describe.table({'networks': {}, 'step': cost})
  assert 'loops' not in describe.step_cost(program(scan(jnp.matmul, 7, unroll=True)), step)


def test_what_no_result_needs_does_not_count():
  def f(x, w):
    return jax.lax.scan(lambda c, _: ((c[0] @ w, c[1] @ w), None), (x, x), None, length=5)[0][0]
  assert describe.flops(program(f)) - 5 * PRODUCT <= PRODUCT      # of the first turn, XLA's count
