"""DF-GAN: deep fusion blocks without normalization (arXiv 2008.05865, CVPR 2022).

The noise becomes a map of 4x4, and each block of the generator doubles it, up to the size of the
images. In every block, scales and shifts that follow from noise and sentence change the maps twice
before each convolution. Sizes, also those of images of less than 256 px, and the order of
operations follow the authors' released code.
"""
from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from xmc_jax.layers.conv import constant_dense, fan_in_bias, leaky
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.layers.resample import resize_nearest
from xmc_jax.networks.base import Text
from xmc_jax.networks.one_stage import BASE, Conv, Dense, OneStageDiscriminator
from xmc_jax.types import Array

WIDEST = 8              # channels of both networks, in multiples of their width


def multiples(blocks: int) -> tuple[int, ...]:
  """Channels after each block of a generator, in multiples of its width."""
  return tuple(min(WIDEST, 2 ** (blocks - 1 - i)) for i in range(blocks))


class Fuse(nn.Module):
  """Scales and shifts x [b, h, w, c] by a condition [b, e], then leaky ReLU; all of this twice.

  At initialization the scales are 1 and the shifts 0.
  """
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, condition: Array) -> Array:
    channels = x.shape[-1]
    for i in range(2):
      def of_condition(name, start):
        hidden = nn.relu(Dense(channels, dtype=self.dtype, name=f'{name}_hidden')(condition))
        return constant_dense(channels, start, dtype=self.dtype, name=name)(hidden)[:, None, None]
      x = leaky(of_condition(f'gamma_{i}', 1.0) * x + of_condition(f'beta_{i}', 0.0))
    return x


class FuseUpBlock(nn.Module):
  """Residual block, [b, h, w, c] -> [b, side, side, features], of a condition [b, e].

  side: 2 h in DF-GAN; GALIP's blocks have other ratios too.

  The released code upsamples first. What follows up to the first convolution acts on single pixels,
  so here it comes before, and the doubling is fused with the convolution.
  """
  features: int
  side: int
  impl: Impl
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, condition: Array) -> Array:
    doubles = self.side == 2 * x.shape[1]
    convolve = lambda how, name: Conv(self.features, how, bias_init=fan_in_bias, impl=self.impl,
                                      dtype=self.dtype, name=name)
    h = Fuse(self.dtype, name='fuse_in')(x, condition)
    h = convolve('up' if doubles else 'same', 'conv_in')(
        h if doubles else resize_nearest(h, self.side))
    h = convolve('same', 'conv_out')(Fuse(self.dtype, name='fuse_out')(h, condition))
    if x.shape[-1] != self.features:
      x = Dense(self.features, dtype=self.dtype, name='shortcut')(x)
    return resize_nearest(x, self.side) + h


class DfGanGenerator(nn.Module):
  """Sentences and noise [b, z] -> images [b, size, size, 3] in [0, 1], float32."""
  size: int
  width: int
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, text: Text, z: Array, train: bool) -> Array:
    """train: without effect, as there are no statistics."""
    del train
    condition = jnp.concatenate([z, text.sentence], -1).astype(self.dtype)
    x = Dense(WIDEST * self.width * BASE * BASE, dtype=self.dtype, name='start')(z)
    x = x.reshape(-1, BASE, BASE, WIDEST * self.width)
    for i, multiple in enumerate(multiples((self.size // BASE).bit_length() - 1)):
      x = FuseUpBlock(multiple * self.width, 2 * x.shape[1], self.impl, self.dtype,
                      name=f'block_{i}')(x, condition)
    x = Conv(3, bias_init=fan_in_bias, impl=self.impl, dtype=self.dtype, name='pixels')(leaky(x))
    return (jnp.tanh(x.astype(jnp.float32)) + 1) / 2


def discriminator(size: int, width: int, *, impl: Impl = FAST, dtype: jnp.dtype = jnp.float32
                  ) -> OneStageDiscriminator:
  """DF-GAN's discriminator of images of `size` px."""
  return OneStageDiscriminator(size, width, WIDEST, impl, dtype)
