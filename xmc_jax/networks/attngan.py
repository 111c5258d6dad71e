"""AttnGAN: the pixels of a map attend to the words (Xu et al. 2018, arXiv 1711.10485).

The released code masks padding with the masks of other examples (`layers.attention.tiled_mask`).
Here each example has its own, so that padding changes nothing; `mask='tiled'` is the released
behavior, for weights that were trained with it.
"""
from __future__ import annotations

import functools

import flax.linen as nn
import jax.numpy as jnp

from xmc_jax.layers.attention import attend, tiled_mask
from xmc_jax.layers.batch_norm import BatchNorm
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.networks.stacked import Conv, Dense, StackedDiscriminator, StackedGenerator
from xmc_jax.types import Array

# Which mask each pixel reads words with: that of its row, or the released code's.
MASKS = {'own': lambda mask, pixels: mask, 'tiled': tiled_mask}


class WordAttention(nn.Module):
  """Beside a map [b, s, s, c], for every pixel the mean of the words that it attends to.

  Words are projected to c; a pixel's weights are a softmax of its products with them.
  """
  mask: str = 'own'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, words: Array, mask: Array) -> Array:
    b, h, w, c = x.shape
    words = Dense(c, bias_init=None, dtype=self.dtype, name='words')(words)
    read = attend(x.reshape(b, h * w, c), words, words, MASKS[self.mask](mask, h * w))
    return jnp.concatenate([x, read.reshape(x.shape).astype(x.dtype)], -1)


class ConvNorm(nn.Module):
  """Convolution without bias, then batch normalization with the statistics of the batch."""
  features: int
  resize: str
  bn_group_size: int | None = None
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = Conv(self.features, self.resize, impl=self.impl, dtype=self.dtype, name='conv')(x)
    return BatchNorm(self.bn_group_size, self.impl, name='norm')(x, True)


def generator(size: int, width: int, residuals: int, *, mask: str = 'own',
              **options) -> StackedGenerator:
  """The generator; `options` are further fields of `stacked.StackedGenerator`."""
  return StackedGenerator(size, width, residuals, functools.partial(WordAttention, mask), **options)


def discriminator(size: int, width: int, *, bn_group_size: int | None = None, impl: Impl = FAST,
                  dtype: jnp.dtype = jnp.float32) -> StackedDiscriminator:
  """Three discriminators with batch normalization in all blocks but the first."""
  conv_norm = functools.partial(ConvNorm, bn_group_size=bn_group_size, impl=impl, dtype=dtype)
  conv = functools.partial(Conv, impl=impl, dtype=dtype)
  return StackedDiscriminator(size, width, conv_norm, conv, dtype)
