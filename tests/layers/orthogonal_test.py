"""Convolutions with orthogonal kernels: against loops in float64, sizes, and how they start."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.impl import FAST, REFERENCE
from xmc_jax.layers.orthogonal import DOWN, Conv, Dense, fan_in_uniform

pytestmark = pytest.mark.usefixtures('strict')

# Name, side of the kernel, side of the result of a 4x4 map.
KINDS = [('same', 3, 4), ('up', 3, 8), ('down', 4, 2), ('whole', 4, 1)]


def slow_conv(x, kernel, stride, pad):
  """Every output pixel as a sum over its window, in float64."""
  x = np.pad(x.astype(float), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  side = len(kernel)
  n = (x.shape[1] - side) // stride + 1
  out = np.zeros((len(x), n, n, kernel.shape[-1]))
  for i in range(n):
    for j in range(n):
      window = x[:, stride * i:stride * i + side, stride * j:stride * j + side]
      out[:, i, j] = np.einsum('bhwc,hwcd->bd', window, kernel.astype(float))
  return out


@pytest.mark.parametrize('impl', [FAST, REFERENCE])
@pytest.mark.parametrize('resize, side, after', KINDS)
def test_convolution_is_the_loops(resize, side, after, impl):
  x, kernel = toys.normal(0, 2, 4, 4, 3), toys.normal(1, side, side, 3, 5)
  large = x.repeat(2, 1).repeat(2, 2) if resize == 'up' else x
  expected = slow_conv(large, kernel, {'down': 2}.get(resize, 1), {'whole': 0}.get(resize, 1))
  out = Conv(5, resize, impl=impl).apply({'params': {'kernel': kernel}}, jnp.array(x))
  assert out.shape == (2, after, after, 5)
  np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_gradients_of_the_forms_of_halving_are_those_of_the_plain_one():
  x, kernel = jnp.array(toys.normal(0, 2, 6, 8, 3)), jnp.array(toys.normal(1, 4, 4, 3, 5))
  vjp_fn = lambda form: jax.vjp(form, x, kernel)[1](jnp.array(toys.normal(2, 2, 3, 4, 5)))
  plain, *others = jax.jit(
    lambda: [vjp_fn(DOWN[name]) for name in ('reference', 'strided', 'parity')]
  )()
  for found in others:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, found)


def test_bias_is_added_if_there_is_one():
  params = {'kernel': np.zeros((3, 3, 3, 2), np.float32), 'bias': np.array([1.0, -2], np.float32)}
  out = Conv(2, bias=True).apply({'params': params}, jnp.ones((1, 4, 4, 3)))
  np.testing.assert_array_equal(out, np.broadcast_to(params['bias'], (1, 4, 4, 2)))
  assert Conv(2).init(jax.random.key(0), out)['params'].keys() == {'kernel'}


@pytest.mark.parametrize('layer, shape', [
    (Conv(64), (1, 4, 4, 3)), (Conv(4, 'down'), (1, 4, 4, 3)), (Dense(7), (1, 60))])
def test_kernels_start_orthogonal(layer, shape):
  kernel = layer.init(jax.random.key(0), jnp.zeros(shape))['params']['kernel']
  matrix = kernel.reshape(-1, kernel.shape[-1])
  np.testing.assert_allclose(np.linalg.svd(matrix)[1], 1, rtol=1e-5)


def test_biases_start_uniform_up_to_the_root_of_the_inputs():
  bias = Conv(2000, 'down', bias=True).init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))['params'][
      'bias']
  assert abs(bias).max() <= 0.25 and abs(bias).mean() > 0.12        # 16 inputs: 1 / 4
  np.testing.assert_array_less(abs(fan_in_uniform(100)(jax.random.key(1), (50,))), 0.1)


@pytest.mark.parametrize('resize, side, after', KINDS)
def test_bfloat16_stays(resize, side, after):
  conv = Conv(5, resize, bias=True, dtype=jnp.bfloat16)
  out, variables = jax.eval_shape(conv.init_with_output, jax.random.key(0),
                                  jax.ShapeDtypeStruct((2, 4, 4, 3), jnp.float32))
  assert (out.shape, out.dtype) == ((2, after, after, 5), jnp.bfloat16)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
