"""Changing the size of feature maps [b, h, w, c], alone and together with a convolution.

A nearest-neighbour doubling before a 3x3 convolution, or an average pooling after one, can be
folded into the kernel. The function is the same to rounding, at 16 of 36 multiplications; zero
padding at the border works out exactly. `AFTER_UP` and `BEFORE_POOL` name the impl of each.
"""
import jax
import jax.numpy as jnp

from xmc_jax.types import Array


def conv(x: Array, kernel: Array, stride: int = 1, padding='SAME', spread: int = 1) -> Array:
  """Convolution of `x` [b, h, w, c] with `kernel` [kh, kw, c, d], in the dtype of `x`.

  spread: pixels of `x` lie so far apart, with zeros between them.
  """
  return jax.lax.conv_general_dilated(
      x, kernel.astype(x.dtype), (stride, stride), padding, lhs_dilation=(spread, spread),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def nearest_up(x: Array, factor: int = 2) -> Array:
  """Every pixel repeated `factor` times in both directions."""
  b, h, w, c = x.shape
  x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, factor, w, factor, c))
  return x.reshape(b, h * factor, w * factor, c)


def align_corners_up(x: Array) -> Array:
  """Twice the size, bilinear, where the corner pixels' centres stay in the corners."""
  def weights(n):
    """[2n, n]: output i lies at (n - 1) / (2n - 1) * i between the inputs."""
    places = jnp.arange(2 * n) * ((n - 1) / (2 * n - 1))
    return jax.nn.relu(1 - jnp.abs(places[:, None] - jnp.arange(n)[None])).astype(x.dtype)
  _, h, w, _ = x.shape
  return jnp.einsum('ih,jw,bhwc->bijc', weights(h), weights(w), x, precision='highest')


def average_pool(x: Array) -> Array:
  """Mean of 2x2 pixels; height and width must be even."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4), dtype=jnp.float32).astype(x.dtype)


def conv_after_up_reference(x: Array, kernel: Array) -> Array:
  """`nearest_up` by two, then a 3x3 convolution."""
  return conv(nearest_up(x), kernel)


def conv_after_up_spread(x: Array, kernel: Array) -> Array:
  """The same as one 4x4 convolution of the small map spread with zeros (a transposed one)."""
  return conv(x, _four_taps(kernel), padding=((2, 2), (2, 2)), spread=2)


@jax.custom_vjp
def conv_after_up_parity(x: Array, kernel: Array) -> Array:
  """The same as four 2x2 convolutions of the small map, one for each parity of the output.

  Its gradient is a convolution of stride two, since the two are adjoint.
  """
  b, h, w, _ = x.shape

  def fold(kernel, axis):
    """Taps of the even and of the odd output pixels: (k0, k1 + k2) and (k0 + k1, k2)."""
    k0, k1, k2 = jnp.split(kernel, 3, axis)
    return (jnp.concatenate([k0, k1 + k2], axis), jnp.concatenate([k0 + k1, k2], axis))

  pads = ((1, 0), (0, 1))
  rows = [[conv(x, columns, padding=(pads[i], pads[j]))
           for j, columns in enumerate(fold(by_row, 1))]
          for i, by_row in enumerate(fold(kernel, 0))]
  out = jnp.stack([jnp.stack(row, 3) for row in rows], 2)        # [b, h, 2, w, 2, d]
  return out.reshape(b, 2 * h, 2 * w, kernel.shape[-1])


def conv_before_pool_reference(x: Array, kernel: Array) -> Array:
  """A 3x3 convolution, then `average_pool`."""
  return average_pool(conv(x, kernel))


def conv_before_pool_strided(x: Array, kernel: Array) -> Array:
  """The same as one 4x4 convolution of stride two."""
  return conv(x, _four_taps(kernel) / 4, stride=2, padding=((1, 1), (1, 1)))


@jax.custom_vjp
def conv_before_pool_parity(x: Array, kernel: Array) -> Array:
  """The same; its gradient in `x` is four 2x2 convolutions of the small map."""
  return conv_before_pool_strided(x, kernel)


def _four_taps(kernel: Array) -> Array:
  """The 3x3 kernel summed over the 2x2 pixels of a doubling or a pooling, [4, 4, c, d]."""
  pads = ((0, 1), (1, 0))
  return sum(jnp.pad(kernel, (down, right, (0, 0), (0, 0))) for down in pads for right in pads)


# Doubling and pooling are adjoint but for a factor of four, and a convolution's adjoint is the one
# with the flipped kernel. So the gradient of either form is the other form: compilers for CPUs are
# slow at what automatic differentiation makes of a stride (a map or a kernel spread with zeros).

def _adjoint(kernel: Array) -> Array:
  return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def _kernel_gradient(large: Array, small: Array, kernel: Array) -> Array:
  """Gradient of <small, conv_before_pool(large, kernel)> in the kernel."""
  return jax.vjp(lambda k: conv_before_pool_strided(large, k), kernel)[1](small)[0]


def _keep(form):
  return lambda x, kernel: (form(x, kernel), (x, kernel))


def _pull_up(saved, out):
  x, kernel = saved
  adjoint = _adjoint(kernel)
  return (4 * conv_before_pool_parity(out, adjoint),
          4 * _adjoint(_kernel_gradient(out, x, adjoint)))


def _pull_pool(saved, out):
  x, kernel = saved
  return conv_after_up_parity(out, _adjoint(kernel)) / 4, _kernel_gradient(x, out, kernel)


conv_after_up_parity.defvjp(_keep(conv_after_up_parity), _pull_up)
conv_before_pool_parity.defvjp(_keep(conv_before_pool_parity), _pull_pool)

AFTER_UP = {'reference': conv_after_up_reference, 'spread': conv_after_up_spread,
            'parity': conv_after_up_parity}
BEFORE_POOL = {'reference': conv_before_pool_reference, 'strided': conv_before_pool_strided,
               'parity': conv_before_pool_parity}
