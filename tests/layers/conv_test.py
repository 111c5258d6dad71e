"""The convolution and dense layers: sizes, dtypes, initial values, folded against plain."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.conv import Conv3x3, Dense
from xmc_jax.layers.impl import FAST, REFERENCE

pytestmark = pytest.mark.usefixtures('strict')


@pytest.mark.parametrize('impl', [FAST, REFERENCE])
@pytest.mark.parametrize('resize, side', [('same', 8), ('up', 16), ('pool', 4)])
def test_resize_changes_the_side_and_bfloat16_stays(resize, side, impl):
  conv, x = Conv3x3(5, resize, impl, jnp.bfloat16), jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
  out, variables = jax.eval_shape(conv.init_with_output, jax.random.key(0), x)
  assert (out.shape, out.dtype) == ((2, side, side, 5), jnp.bfloat16)
  assert {k: (v.shape, v.dtype) for k, v in variables['params'].items()} == {
      'kernel': ((3, 3, 3, 5), jnp.float32), 'bias': ((5,), jnp.float32)}


@pytest.mark.parametrize('resize', ['same', 'up', 'pool'])
def test_folding_leaves_the_layer(resize):
  x = jnp.array(toys.normal(0, 2, 6, 4, 3))
  params = {'kernel': toys.normal(1, 3, 3, 3, 2), 'bias': toys.normal(2, 2)}
  fast, plain = (jax.jit(Conv3x3(2, resize, form).apply)({'params': params}, x)
                 for form in (FAST, REFERENCE))
  np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-5)


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
