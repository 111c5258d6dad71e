"""SSA-GAN: captions modulate images where a learned mask allows it (arXiv 2104.00567).

Generator and discriminator have one scale. Each block of the generator predicts from its own map
where the sentence modulates the next block. Sizes and the order of operations follow the authors'
released code.

The paper's images have 256 px. For smaller ones the rule is ours: the first blocks, all of the
same width, are left out, and the discriminator still halves to 4x4.
"""
from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers.batch_norm import BatchNorm
from xmc_jax.layers.conv import constant_dense, fan_in_bias, leaky
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.layers.norm import GroupedBatchNorm
from xmc_jax.layers.resample import align_corners_up, nearest_up
from xmc_jax.networks.base import Text
from xmc_jax.networks.one_stage import BASE, Conv, Dense, OneStageDiscriminator
from xmc_jax.types import Array

MASK_FEATURES = 100     # of the networks that predict masks
HIDDEN = 256            # of the networks from a sentence to scales and shifts
WIDEST = 16             # channels of a discriminator, in multiples of its width


def up_multiples(size: int) -> tuple[int, ...]:
  """Channels of the blocks of a generator, in multiples of its width; the last has `size` px."""
  blocks = (size // BASE).bit_length()
  return (8,) * (blocks - 3) + (4, 2, 1)


class Modulation(nn.Module):
  """Batch normalization, scaled and shifted by a sentence where a mask in [0, 1] is above 0.

  x [b, h, w, c], sentence [b, e], mask [b, h, w, 1]: x' (1 + mask gamma) + mask beta. At
  initialization it is a batch normalization without scale and shift.
  """
  bn_group_size: int | None
  impl: Impl
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, sentence: Array, mask: Array, train: bool) -> Array:
    def of_sentence(name):
      hidden = nn.relu(Dense(HIDDEN, dtype=self.dtype, name=f'{name}_hidden')(sentence))
      out = constant_dense(x.shape[-1], dtype=self.dtype, name=name)(hidden)
      return mask.astype(self.dtype) * out[:, None, None]
    norm = GroupedBatchNorm(self.bn_group_size, self.impl, name='norm')
    return norm(x, of_sentence('gamma'), of_sentence('beta'), train)


class MaskPredictor(nn.Module):
  """A map [b, h, w, c] -> logits [b, h, w, 1] of where the next block is modulated."""
  bn_group_size: int | None
  impl: Impl
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    x = Conv(MASK_FEATURES, bias_init=fan_in_bias, impl=self.impl, dtype=self.dtype, name='conv')(x)
    x = nn.relu(BatchNorm(self.bn_group_size, self.impl, name='norm')(x, train))
    return Dense(1, dtype=self.dtype, name='logit')(x)


class SsaGanUpBlock(nn.Module):
  """Residual block of one size, [b, h, w, c] -> [b, h, w, features]; begins as its shortcut."""
  features: int
  bn_group_size: int | None
  impl: Impl
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, sentence: Array, mask: Array, train: bool) -> Array:
    h = x
    for where in ('in', 'out'):
      h = Modulation(self.bn_group_size, self.impl, self.dtype, name=f'norm_{where}')(
          h, sentence, mask, train)
      h = Conv(self.features, bias_init=fan_in_bias, impl=self.impl, dtype=self.dtype,
               name=f'conv_{where}')(nn.relu(h))
    if x.shape[-1] != self.features:
      x = Dense(self.features, dtype=self.dtype, name='shortcut')(x)
    gate = self.param('gate', nn.initializers.zeros, ())
    return x + gate.astype(self.dtype) * h


class SsaGanGenerator(nn.Module):
  """Captions and noise [b, z] -> images [b, size, size, 3] in [0, 1], float32."""
  size: int
  width: int
  bn_group_size: int | None = None
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, text: Text, z: Array, train: bool) -> Array:
    multiples = up_multiples(self.size)
    predict = lambda i: MaskPredictor(self.bn_group_size, self.impl, self.dtype, name=f'mask_{i}')
    sentence = text.sentence.astype(self.dtype)
    x = Dense(8 * self.width * BASE * BASE, dtype=self.dtype, name='start')(z)
    x = x.reshape(-1, BASE, BASE, 8 * self.width)
    logits = predict(0)(x, train)
    for i, multiple in enumerate(multiples):
      if i:
        x, logits = nearest_up(x), align_corners_up(logits)
      x = SsaGanUpBlock(multiple * self.width, self.bn_group_size, self.impl, self.dtype,
                        name=f'block_{i}')(x, sentence, jax.nn.sigmoid(logits), train)
      if i + 1 < len(multiples):
        logits = predict(i + 1)(x, train)
    x = leaky(BatchNorm(self.bn_group_size, self.impl, name='norm')(x, train))
    x = Conv(3, bias_init=fan_in_bias, impl=self.impl, dtype=self.dtype, name='pixels')(x)
    return (jnp.tanh(x.astype(jnp.float32)) + 1) / 2


def discriminator(size: int, width: int, *, impl: Impl = FAST, dtype: jnp.dtype = jnp.float32
                  ) -> OneStageDiscriminator:
  """SSA-GAN's discriminator of images of `size` px."""
  return OneStageDiscriminator(size, width, WIDEST, impl, dtype)
