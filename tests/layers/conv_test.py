"""Convolution and dense layers: against loops in float64, sizes, dtypes, initial values, biases."""
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.conv import (
  FAN_IN,
  ORTHOGONAL,
  Conv,
  Dense,
  constant_dense,
  fan_in_bias,
  zero_bias,
)
from xmc_jax.layers.impl import FAST, REFERENCE

pytestmark = pytest.mark.usefixtures('strict')

Conv3x3 = functools.partial(Conv, bias_init=zero_bias)


@pytest.mark.parametrize('impl', [FAST, REFERENCE])
@pytest.mark.parametrize('resize, side', [('same', 8), ('up', 16), ('pool', 4)])
def test_resize_changes_the_side_and_bfloat16_stays(resize, side, impl):
  conv, x = Conv3x3(5, resize, impl=impl, dtype=jnp.bfloat16), jax.ShapeDtypeStruct(
      (2, 8, 8, 3), jnp.float32)
  out, variables = jax.eval_shape(conv.init_with_output, jax.random.key(0), x)
  assert (out.shape, out.dtype) == ((2, side, side, 5), jnp.bfloat16)
  assert {k: (v.shape, v.dtype) for k, v in variables['params'].items()} == {
      'kernel': ((3, 3, 3, 5), jnp.float32), 'bias': ((5,), jnp.float32)}


@pytest.mark.parametrize('resize', ['same', 'up', 'pool'])
def test_folding_leaves_the_layer(resize):
  x = jnp.array(toys.normal(0, 2, 6, 4, 3))
  params = {'kernel': toys.normal(1, 3, 3, 3, 2), 'bias': toys.normal(2, 2)}
  fast, reference = (jax.jit(Conv3x3(2, resize, impl=impl).apply)({'params': params}, x)
                     for impl in (FAST, REFERENCE))
  np.testing.assert_allclose(fast, reference, rtol=1e-4, atol=1e-5)


def test_bias_is_added_once_behind_the_change_of_size():
  x, bias = jnp.zeros((1, 4, 4, 3)), np.array([1.0, -2], np.float32)
  params = {'kernel': np.ones((3, 3, 3, 2), np.float32), 'bias': bias}
  for resize in ('same', 'up', 'pool'):
    out = Conv3x3(2, resize).apply({'params': params}, x)
    np.testing.assert_array_equal(out, np.broadcast_to(bias, out.shape))


@pytest.mark.parametrize('layer, shape, fan', [
    (Conv3x3(64), (1, 4, 4, 16), 9 * (16 + 64) / 2), (Dense(100), (1, 60), (60 + 100) / 2)])
def test_kernels_start_glorot_normal_and_biases_zero(layer, shape, fan):
  params = layer.init(jax.random.key(0), jnp.zeros(shape))['params']
  assert not params['bias'].any()
  np.testing.assert_allclose(params['kernel'].std(), fan ** -0.5, rtol=0.05)
  assert abs(params['kernel'].mean()) < 0.05 * fan ** -0.5


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


def test_bias_is_added_if_there_is_one():
  params = {'kernel': np.zeros((3, 3, 3, 2), np.float32), 'bias': np.array([1.0, -2], np.float32)}
  out = Conv(2, bias_init=fan_in_bias).apply({'params': params}, jnp.ones((1, 4, 4, 3)))
  np.testing.assert_array_equal(out, np.broadcast_to(params['bias'], (1, 4, 4, 2)))
  assert Conv(2).init(jax.random.key(0), out)['params'].keys() == {'kernel'}


@pytest.mark.parametrize('layer, shape', [
    (Conv(64, 'same', ORTHOGONAL), (1, 4, 4, 3)),
    (Conv(4, 'down', ORTHOGONAL), (1, 4, 4, 3)), (Dense(7, ORTHOGONAL), (1, 60))])
def test_kernels_start_orthogonal(layer, shape):
  kernel = layer.init(jax.random.key(0), jnp.zeros(shape))['params']['kernel']
  matrix = kernel.reshape(-1, kernel.shape[-1])
  np.testing.assert_allclose(np.linalg.svd(matrix)[1], 1, rtol=1e-5)


def test_biases_start_uniform_up_to_the_root_of_the_inputs():
  conv = Conv(2000, 'down', bias_init=fan_in_bias)
  bias = conv.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))['params']['bias']
  assert abs(bias).max() <= 0.25 and abs(bias).mean() > 0.12        # 16 inputs: 1 / 4
  np.testing.assert_array_less(abs(fan_in_bias(100)(jax.random.key(1), (50,))), 0.1)


@pytest.mark.parametrize('resize, side, after', KINDS)
def test_bfloat16_stays_with_every_kind(resize, side, after):
  conv = Conv(5, resize, bias_init=fan_in_bias, dtype=jnp.bfloat16)
  out, variables = jax.eval_shape(conv.init_with_output, jax.random.key(0),
                                  jax.ShapeDtypeStruct((2, 4, 4, 3), jnp.float32))
  assert (out.shape, out.dtype) == ((2, after, after, 5), jnp.bfloat16)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def test_kernels_start_uniform_up_to_the_root_of_the_inputs():
  kernel = Dense(500, FAN_IN).init(jax.random.key(0), jnp.zeros((1, 16)))['params']['kernel']
  assert 0.24 < abs(kernel).max() <= 0.25 and abs(kernel.mean()) < 0.01


@pytest.mark.parametrize('shape', [(5, 3), (2, 4, 4, 3)])
@pytest.mark.parametrize('bias_init', [None, zero_bias])
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_dense_is_flaxs_to_the_bit(shape, bias_init, dtype):
  x, rng = jnp.array(toys.normal(0, *shape)), jax.random.key(0)
  ours = Dense(7, ORTHOGONAL, bias_init, dtype)
  flaxs = nn.Dense(7, kernel_init=ORTHOGONAL, use_bias=bias_init is not None, dtype=dtype)
  params = ours.init(rng, x)
  jax.tree.map(np.testing.assert_array_equal, params, flaxs.init(rng, x))
  np.testing.assert_array_equal(*(jax.jit(m.apply)(params, x) for m in (ours, flaxs)))


def test_a_dense_layer_can_begin_as_a_constant():
  x = jnp.array(toys.normal(0, 4, 3))
  out, _ = constant_dense(5, 2.0).init_with_output(jax.random.key(0), x)
  np.testing.assert_array_equal(out, np.full((4, 5), 2.0))
