"""Changes of size of feature maps [b, h, w, c], alone and together with a convolution.

A nearest-neighbor doubling before a 3x3 convolution, or an average pooling after one, can be folded
into the kernel. The function is the same up to rounding, with 16 of 36 multiplications, and zero
padding at the border works out exactly. `AFTER_UP`, `BEFORE_POOL` and `DOWN` name the
implementations of each.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from xmc_jax.layers.per_device import per_device
from xmc_jax.types import Array, Float


def conv(x: Float[Array, 'b h w c'], kernel: Float[Array, 'k l c d'], stride: int = 1,
         padding='SAME', lhs_dilation: int = 1) -> Float[Array, 'b i j d']:
  """Convolution in the dtype of `x`.

  lhs_dilation: zeros are inserted between pixels so that they lie this far apart (a transposed
    convolution).
  """
  return jax.lax.conv_general_dilated(
      x, kernel.astype(x.dtype), (stride, stride), padding, (lhs_dilation, lhs_dilation),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def nearest_up(x: Float[Array, 'b h w c'], factor: int = 2) -> Float[Array, 'b i j c']:
  """Nearest-neighbor upsampling: every pixel repeated `factor` times in both directions."""
  b, h, w, c = x.shape
  x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, factor, w, factor, c))
  return x.reshape(b, h * factor, w * factor, c)


def resize_nearest(x: Float[Array, 'b s s c'], side: int) -> Float[Array, 'b t t c']:
  """Nearest-neighbor resizing of square maps as in torch: pixel i is floor(i s / side)."""
  if side % x.shape[1] == 0:
    return nearest_up(x, side // x.shape[1])
  kept = np.arange(side) * x.shape[1] // side
  return x[:, kept][:, :, kept]


def align_corners_up(x: Float[Array, 'b h w c']) -> Float[Array, 'b 2*h 2*w c']:
  """Bilinear upsampling by two with aligned corners."""
  def weights(n):
    """[2n, n]: output i is at position (n - 1) / (2n - 1) * i between the inputs."""
    places = jnp.arange(2 * n) * ((n - 1) / (2 * n - 1))
    return jax.nn.relu(1 - jnp.abs(places[:, None] - jnp.arange(n)[None])).astype(x.dtype)
  _, h, w, _ = x.shape
  return jnp.einsum('ih,jw,bhwc->bijc', weights(h), weights(w), x, precision='highest')


def append_vector(x: Float[Array, 'b h w c'], vector: Float[Array, 'b d']
                  ) -> Float[Array, 'b h w c+d']:
  """`x` with `vector`, in the dtype of `x`, appended at every pixel."""
  everywhere = jnp.broadcast_to(vector[:, None, None].astype(x.dtype),
                                (*x.shape[:3], vector.shape[-1]))
  return jnp.concatenate([x, everywhere], -1)


def average_pool(x: Float[Array, 'b h w c']) -> Float[Array, 'b h//2 w//2 c']:
  """Mean of 2x2 pixels; height and width must be even."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4), dtype=jnp.float32).astype(x.dtype)


def conv_after_up_reference(x: Float[Array, 'b h w c'], kernel: Float[Array, '3 3 c d']
                            ) -> Float[Array, 'b 2*h 2*w d']:
  """`nearest_up` by two, then a 3x3 convolution, as in the papers."""
  return conv(nearest_up(x), kernel)


def conv_after_up_spread(x: Float[Array, 'b h w c'], kernel: Float[Array, '3 3 c d']
                         ) -> Float[Array, 'b 2*h 2*w d']:
  """The same as one transposed 4x4 convolution of the small map."""
  return conv(x, _four_taps(kernel), padding=((2, 2), (2, 2)), lhs_dilation=2)


@jax.custom_vjp
def conv_after_up_parity(x: Float[Array, 'b h w c'], kernel: Float[Array, '3 3 c d']
                         ) -> Float[Array, 'b 2*h 2*w d']:
  """The same as four 2x2 convolutions of the small map, one for each parity of the output pixels.

  The gradient is a convolution with stride two, since the two are adjoint.
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


def conv_before_pool_reference(x: Float[Array, 'b h w c'], kernel: Float[Array, '3 3 c d']
                               ) -> Float[Array, 'b h//2 w//2 d']:
  """A 3x3 convolution, then `average_pool`, as in the papers."""
  return average_pool(conv(x, kernel))


def conv_before_pool_strided(x: Float[Array, 'b h w c'], kernel: Float[Array, '3 3 c d']
                             ) -> Float[Array, 'b h//2 w//2 d']:
  """The same as one 4x4 convolution with stride two."""
  return conv(x, _four_taps(kernel) / 4, stride=2, padding=((1, 1), (1, 1)))


@jax.custom_vjp
def conv_before_pool_parity(x: Float[Array, 'b h w c'], kernel: Float[Array, '3 3 c d']
                            ) -> Float[Array, 'b h//2 w//2 d']:
  """The same; its gradient in `x` is four 2x2 convolutions of the small map."""
  return conv_before_pool_strided(x, kernel)


def _four_taps(kernel: Array) -> Array:
  """The 3x3 kernel summed over the 2x2 pixels of a doubling or a pooling, [4, 4, c, d]."""
  pads = ((0, 1), (1, 0))
  return sum(jnp.pad(kernel, (down, right, (0, 0), (0, 0))) for down in pads for right in pads)


# Doubling and pooling are adjoint up to a factor of four, and the adjoint of a convolution is the
# one with the flipped kernel. So each of the two has the other as its gradient. Differentiating a
# stride automatically would give a dilated convolution, at which compilers for CPUs are slow.

def _adjoint(kernel: Array) -> Array:
  return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def _kernel_gradient(large: Array, small: Array, kernel: Array) -> Array:
  """Gradient of <small, conv_before_pool(large, kernel)> in the kernel.

  Devices exchange it in the dtype of the maps and after it is folded back, 9 taps in place of 16.
  """
  def run(kernel, large):
    return conv_before_pool_strided(large, kernel.astype(jnp.float32))
  return jax.vjp(lambda k: per_device(run, k.astype(large.dtype), large), kernel)[1](small)[0]


def _forward(run):
  return lambda x, kernel: (run(x, kernel), (x, kernel))


def _up_backward(saved, out):
  x, kernel = saved
  adjoint = _adjoint(kernel)
  return (4 * conv_before_pool_parity(out, adjoint),
          4 * _adjoint(_kernel_gradient(out, x, adjoint)))


def _pool_backward(saved, out):
  x, kernel = saved
  return conv_after_up_parity(out, _adjoint(kernel)) / 4, _kernel_gradient(x, out, kernel)


conv_after_up_parity.defvjp(_forward(conv_after_up_parity), _up_backward)
conv_before_pool_parity.defvjp(_forward(conv_before_pool_parity), _pool_backward)


def conv_down(x: Float[Array, 'b h w c'], kernel: Float[Array, '4 4 c d']
              ) -> Float[Array, 'b h//2 w//2 d']:
  """4x4 convolution with stride two and one pixel of padding."""
  return conv(x, kernel, stride=2, padding=((1, 1), (1, 1)))


@jax.custom_vjp
def conv_down_parity(x: Float[Array, 'b h w c'], kernel: Float[Array, '4 4 c d']
                     ) -> Float[Array, 'b h//2 w//2 d']:
  """The same; its gradient in `x` is four 2x2 convolutions, one for each parity of the pixels.

  On CPUs they are three to four times as fast as a dilated convolution.
  """
  return conv_down(x, kernel)


def _down_backward(saved, out):
  x, kernel = saved
  # Output o reads pixel 2o - 1 + t with tap t: pixel 2i is read with tap 3 by output i - 1 and with
  # tap 1 by i; pixel 2i + 1 with tap 2 by i and with tap 0 by i + 1.
  taps, pads = (jnp.array([3, 1]), jnp.array([2, 0])), ((1, 0), (0, 1))
  for_x = [[conv(out, kernel[rows][:, columns].swapaxes(2, 3), padding=(above, left))
            for columns, left in zip(taps, pads)] for rows, above in zip(taps, pads)]
  for_x = jnp.stack([jnp.stack(row, 3) for row in for_x], 2)          # [b, h / 2, 2, w / 2, 2, c]
  return for_x.reshape(x.shape), jax.vjp(lambda k: conv_down(x, k), kernel)[1](out)[0]


conv_down_parity.defvjp(_forward(conv_down), _down_backward)


def conv_whole(x: Float[Array, 'b h w c'], kernel: Float[Array, 'h w c d']
               ) -> Float[Array, 'b 1 1 d']:
  """Convolution with a kernel as large as the map."""
  return jnp.einsum('bhwc,hwcd->bd', x, kernel.astype(x.dtype))[:, None, None]


AFTER_UP = {'reference': conv_after_up_reference, 'spread': conv_after_up_spread,
            'parity': conv_after_up_parity}
BEFORE_POOL = {'reference': conv_before_pool_reference, 'strided': conv_before_pool_strided,
               'parity': conv_before_pool_parity}
DOWN = {'reference': conv_down, 'strided': conv_down, 'parity': conv_down_parity}   # by `Impl.pool`
