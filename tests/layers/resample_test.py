"""Changes of size: literal values, a convolution by loops, and folded impl against plain ones."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers import resample

pytestmark = pytest.mark.usefixtures('strict')

SQUARE = np.array([[1.0, 2], [3, 4]], np.float32)[None, :, :, None]


def slow_conv(x, kernel):
  """3x3 convolution with a border of zeros, one pixel at a time, in float64."""
  b, h, w, _ = x.shape
  padded = np.pad(x.astype(float), ((0, 0), (1, 1), (1, 1), (0, 0)))
  out = np.zeros((b, h, w, kernel.shape[-1]))
  for i in range(h):
    for j in range(w):
      for di in range(3):
        for dj in range(3):
          out[:, i, j] += padded[:, i + di, j + dj] @ kernel[di, dj].astype(float)
  return out


def test_nearest_up_repeats_pixels():
  np.testing.assert_array_equal(resample.nearest_up(jnp.array(SQUARE))[0, ..., 0],
                                [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])
  assert resample.nearest_up(jnp.array(SQUARE), 3)[0, :, 4, 0].tolist() == [2, 2, 2, 4, 4, 4]
  np.testing.assert_array_equal(resample.nearest_up(jnp.array(SQUARE), 1), SQUARE)


def test_average_pool_takes_the_mean_of_four():
  x = jnp.array([[1.0, 2, 10, 10], [3, 4, 10, 14]])[None, :, :, None]
  assert resample.average_pool(x)[0, 0, :, 0].tolist() == [2.5, 11]


def test_average_pool_sums_bfloat16_in_float32():
  # In bfloat16, 256 + 1 is 256 again: a sum taken there would lose both ones.
  x = jnp.array([[256.0, 1], [1, 2]], jnp.bfloat16)[None, :, :, None]
  pooled = resample.average_pool(x)
  assert pooled.dtype == jnp.bfloat16 and pooled.item() == 65        # 260 / 4, not 258 / 4 = 64.5


def test_convolution_is_the_loops():
  x, kernel = toys.normal(0, 2, 4, 5, 3), toys.normal(1, 3, 3, 3, 2)
  np.testing.assert_allclose(resample.conv(jnp.array(x), jnp.array(kernel)), slow_conv(x, kernel),
                             rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('form', resample.AFTER_UP)
def test_up_is_doubling_then_the_loops(form):
  x, kernel = toys.normal(0, 2, 3, 2, 3), toys.normal(1, 3, 3, 3, 2)
  slow = slow_conv(x.repeat(2, 1).repeat(2, 2), kernel)
  np.testing.assert_allclose(resample.AFTER_UP[form](jnp.array(x), jnp.array(kernel)), slow,
                             rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('form', resample.BEFORE_POOL)
def test_pool_is_the_loops_then_means(form):
  x, kernel = toys.normal(0, 2, 4, 6, 3), toys.normal(1, 3, 3, 3, 2)
  slow = slow_conv(x, kernel).reshape(2, 2, 2, 3, 2, 2).mean((2, 4))
  np.testing.assert_allclose(resample.BEFORE_POOL[form](jnp.array(x), jnp.array(kernel)), slow,
                             rtol=1e-4, atol=1e-5)


UP_SIZES, POOL_SIZES = [(1, 1), (2, 2), (3, 5), (8, 4)], [(2, 2), (4, 6), (10, 2), (8, 8)]


@pytest.mark.slow
@pytest.mark.parametrize('impl, name, sizes', [
    (resample.AFTER_UP, 'spread', UP_SIZES), (resample.AFTER_UP, 'parity', UP_SIZES),
    (resample.BEFORE_POOL, 'strided', POOL_SIZES), (resample.BEFORE_POOL, 'parity', POOL_SIZES)])
@pytest.mark.parametrize('channels, features', [(1, 1), (3, 5), (4, 2)])
def test_each_form_and_its_gradients_are_the_plain_ones(impl, name, sizes, channels, features):
  @jax.jit
  def differences(xs, kernel):
    def value_and_pulls(form, x):
      out, vjp_fn = jax.vjp(form, x, kernel)
      return out, *vjp_fn(jnp.sin(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape))
    return [jax.tree.map(lambda a, b: (a, b), value_and_pulls(impl[name], x),
                         value_and_pulls(impl['reference'], x)) for x in xs]

  xs = [jnp.array(toys.normal(i, 2, *size, channels)) for i, size in enumerate(sizes)]
  kernel = jnp.array(toys.normal(9, 3, 3, channels, features))
  for out, for_x, for_kernel in differences(xs, kernel):
    np.testing.assert_allclose(*out, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(*for_x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(*for_kernel, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('impl, name', [(resample.AFTER_UP, 'parity'),
                                         (resample.BEFORE_POOL, 'parity')])
def test_gradients_of_gradients_are_the_plain_ones(impl, name):
  # As a penalty on the discriminator's gradient needs them.
  x, kernel = jnp.array(toys.normal(0, 2, 4, 6, 3)), jnp.array(toys.normal(1, 3, 3, 3, 2))

  def penalty(form):
    grad_norm_sq = lambda x, k: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(form(x, k))))(x) ** 2)
    return jax.grad(grad_norm_sq, (0, 1))(x, kernel)
  a, b = jax.jit(lambda: (penalty(impl[name]), penalty(impl['reference'])))()
  jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-3, atol=1e-3), a, b)


def test_gradients_of_the_ways_to_halve_are_those_of_the_reference():
  x, kernel = jnp.array(toys.normal(0, 2, 6, 8, 3)), jnp.array(toys.normal(1, 4, 4, 3, 5))
  vjp_fn = lambda run: jax.vjp(run, x, kernel)[1](jnp.array(toys.normal(2, 2, 3, 4, 5)))
  reference, *others = jax.jit(
    lambda: [vjp_fn(resample.DOWN[name]) for name in ('reference', 'strided', 'parity')]
  )()
  for found in others:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), reference,
                 found)
