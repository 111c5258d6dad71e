"""Changing the size of feature maps [b, h, w, c], alone and together with a convolution.

A nearest-neighbour doubling before a 3x3 convolution, or an average pooling after one, can be
folded into the kernel. The function is the same to rounding, at 16 of 36 multiplications; zero
padding at the border works out exactly. Each folded form has a plain twin of the same signature.
"""
import jax
import jax.numpy as jnp

from xmc_jax.types import Array


def conv(x: Array, kernel: Array, stride: int = 1, padding='SAME') -> Array:
  """Convolution of `x` [b, h, w, c] with `kernel` [kh, kw, c, d], in the dtype of `x`."""
  return jax.lax.conv_general_dilated(
      x, kernel.astype(x.dtype), (stride, stride), padding,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def nearest_up(x: Array, factor: int = 2) -> Array:
  """Every pixel repeated `factor` times in both directions."""
  b, h, w, c = x.shape
  x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, factor, w, factor, c))
  return x.reshape(b, h * factor, w * factor, c)


def average_pool(x: Array) -> Array:
  """Mean of 2x2 pixels; height and width must be even."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4), dtype=jnp.float32).astype(x.dtype)


def conv_after_up_plain(x: Array, kernel: Array) -> Array:
  """`nearest_up` by two, then a 3x3 convolution."""
  return conv(nearest_up(x), kernel)


def conv_after_up(x: Array, kernel: Array) -> Array:
  """The same as four 2x2 convolutions of the small map, one for each parity of the output."""
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


def conv_before_pool_plain(x: Array, kernel: Array) -> Array:
  """A 3x3 convolution, then `average_pool`."""
  return average_pool(conv(x, kernel))


def conv_before_pool(x: Array, kernel: Array) -> Array:
  """The same as one 4x4 convolution of stride two."""
  for axis in (0, 1):
    zero = jnp.zeros_like(jax.lax.slice_in_dim(kernel, 0, 1, axis=axis))
    kernel = (jnp.concatenate([kernel, zero], axis) + jnp.concatenate([zero, kernel], axis)) / 2
  return conv(x, kernel, stride=2, padding=((1, 1), (1, 1)))
