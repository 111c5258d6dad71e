"""Residual blocks: what is folded is the same function as what the paper draws."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.impl import FAST, REFERENCE
from xmc_jax.layers.norm import ConditionalNorm, LocalConditionalNorm
from xmc_jax.networks.xmc_gan import XmcDownBlock, XmcUpBlock

pytestmark = pytest.mark.usefixtures('strict')


def assert_same_function(fast, plain, x, *rest):
  """Equal parameters in number and shape; equal outputs and gradients in them and in `x`."""
  spec = jax.eval_shape(lambda: fast.init(jax.random.key(0), x, *rest))
  assert spec == jax.eval_shape(lambda: plain.init(jax.random.key(0), x, *rest))
  variables = toys.fill(spec)
  params = variables.pop('params')

  def pulled(block):
    apply = lambda params, x: block.apply({'params': params, **variables}, x, *rest,
                                          mutable=['batch_stats'])[0]
    out, vjp_fn = jax.vjp(apply, params, x)
    return out, vjp_fn(jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape))

  a, b = jax.jit(lambda: (pulled(fast), pulled(plain)))()
  close = lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-3, atol=2e-4)
  jax.tree.map(close, a, b)
  return a[0]


@pytest.mark.parametrize('side, channels, features, norm, condition', [
    (4, 3, 5, ConditionalNorm, (8, 6)), (8, 4, 4, ConditionalNorm, (8, 6)),
    (4, 3, 5, LocalConditionalNorm, (8, 4, 4, 6)), (8, 4, 2, LocalConditionalNorm, (8, 2, 2, 6))])
def test_up_block(side, channels, features, norm, condition):
  blocks = [XmcUpBlock(features, norm, 4, impl, jnp.float32) for impl in (FAST, REFERENCE)]
  x = jnp.array(toys.normal(0, 8, side, side, channels))
  out = assert_same_function(*blocks, x, jnp.array(toys.normal(1, *condition)), True)
  assert out.shape == (8, 2 * side, 2 * side, features)


@pytest.mark.parametrize('side, channels, features, first, keep_size', [
    (8, 3, 4, True, False), (4, 3, 5, False, False), (8, 4, 4, False, False),
    (4, 3, 5, False, True), (4, 4, 4, False, True)])
def test_down_block(side, channels, features, first, keep_size):
  blocks = [XmcDownBlock(features, first, keep_size, impl, jnp.float32)
            for impl in (FAST, REFERENCE)]
  out = assert_same_function(*blocks, jnp.array(toys.normal(0, 4, side, side, channels)))
  after = side if keep_size else side // 2
  assert out.shape == (4, after, after, features)


def test_a_block_of_the_same_size_and_channels_has_no_shortcut_convolution():
  names = lambda *shape: set(jax.eval_shape(
      XmcDownBlock(4, False, True, FAST, jnp.float32).init, jax.random.key(0),
      jax.ShapeDtypeStruct(shape, jnp.float32))['params'])
  assert names(1, 4, 4, 4) == {'conv_in', 'conv_pool'}
  assert names(1, 4, 4, 3) == {'conv_in', 'conv_pool', 'shortcut'}
