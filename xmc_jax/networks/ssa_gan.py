"""SSA-GAN: captions modulate images where a learned mask allows it (arXiv 2104.00567).

Generator and discriminator have one scale. Each block of the generator predicts from its own map
where the sentence modulates the next block. Sizes and the order of operations follow the authors'
released code.

The paper's images have 256 px. For smaller ones the rule is ours: the first blocks, all of the
same width, are left out, and the discriminator still halves to 4x4.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers import conv
from xmc_jax.layers.batch_norm import BatchNorm
from xmc_jax.layers.conv import FAN_IN, constant_dense, fan_in_bias, leaky
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.layers.norm import GroupedBatchNorm
from xmc_jax.layers.resample import align_corners_up, append_vector, average_pool, nearest_up
from xmc_jax.networks import base
from xmc_jax.networks.base import ForwardOutputs, SplitForward, Text
from xmc_jax.types import Array, Batch, Tree

SIZES = (32, 64, 128, 256)
BASE = 4                # side of the smallest map
MASK_FEATURES = 100     # of the networks that predict masks
HIDDEN = 256            # of the networks from a sentence to scales and shifts

# As in torch, kernels and biases start uniform in +-1 / sqrt(fan in).
Conv = functools.partial(conv.Conv, kernel_init=FAN_IN)
Dense = functools.partial(conv.Dense, kernel_init=FAN_IN, bias_init=fan_in_bias)


def up_multiples(size: int) -> tuple[int, ...]:
  """Channels of the blocks of a generator, in multiples of its width; the last has `size` px."""
  blocks = (size // BASE).bit_length()
  return (8,) * (blocks - 3) + (4, 2, 1)


def down_multiples(size: int) -> tuple[int, ...]:
  """Channels after each halving of a discriminator, in multiples of its width, down to 4x4."""
  return tuple(min(2 << i, 16) for i in range((size // BASE).bit_length() - 1))


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


class SsaGanDownBlock(nn.Module):
  """Residual block of half the size, [b, h, w, c] -> [b, h / 2, w / 2, features].

  Where the number of channels stays the same, the shortcut has weights that are not used. The
  released code has them too, in its parameter counts and files.
  """
  features: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array) -> Array:
    h = leaky(Conv(self.features, 'down', dtype=self.dtype, name='conv_down')(x))
    h = leaky(Conv(self.features, dtype=self.dtype, name='conv')(h))
    small = average_pool(x)         # a 1x1 convolution commutes with it
    shortcut = Dense(self.features, dtype=self.dtype, name='shortcut')(small)
    gate = self.param('gate', nn.initializers.zeros, ())
    return (small if x.shape[-1] == self.features else shortcut) + gate.astype(self.dtype) * h


class SsaGanDiscriminator(nn.Module):
  """Images [b, size, size, 3] in [-1, 1] and several sentences -> a logit [b] for each."""
  size: int
  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, image: Array, *sentences: Array) -> tuple[Array, ...]:
    x = Conv(self.width, bias_init=fan_in_bias, dtype=self.dtype, name='start')(image)
    for i, multiple in enumerate(down_multiples(self.size)):
      x = SsaGanDownBlock(multiple * self.width, self.dtype, name=f'block_{i}')(x)
    joint = Conv(2 * self.width, dtype=self.dtype, name='joint')
    logit = Conv(1, 'whole', dtype=self.dtype, name='logit')
    return tuple(logit(leaky(joint(append_vector(x, sentence))))[:, 0, 0, 0].astype(jnp.float32)
                 for sentence in sentences)


@dataclasses.dataclass(frozen=True)
class SsaGanNetworks(SplitForward):
  """Generator "g" and discriminator "d", with the frozen text encoder in front of both.

  encode: (frozen, batch) -> Text.
  embed_images: (frozen, images) -> (embedding [b, d], regions [b, n, e]) of the frozen image
    network, or None.
  """
  generator: SsaGanGenerator
  discriminator: SsaGanDiscriminator
  encode: Callable[[dict[str, Tree], Batch], Text]
  text_features: int
  embed_images: Callable[[dict[str, Tree], Array], tuple[Array, Array]] | None = None
  z_features: int = 100

  def init(self, rng: Array, batch: Batch) -> dict[str, Tree]:
    g_rng, d_rng = jax.random.split(rng)
    text, size = base.text_zeros(batch, self.text_features), self.generator.size
    b = len(text.sentence)
    g = self.generator.init(g_rng, text, jnp.zeros((b, self.z_features)), True)
    d = self.discriminator.init(d_rng, jnp.zeros((b, size, size, 3)), text.sentence)
    return {'g': g, 'd': d}

  def generate(self, params, stats, frozen, batch, rngs):
    text = self.encode(frozen, batch)
    fake, g_stats = self.generator.apply(
        {'params': params['g'], **stats['g']}, text, base.normal_noise(rngs, self.z_features), True,
        mutable=['batch_stats'])
    embedding, regions = self.embed_images(frozen, fake) if self.embed_images else (None, None)
    outputs = ForwardOutputs(batch, text, (fake,), fake_embedding=embedding, fake_regions=regions)
    return outputs, stats | {'g': dict(g_stats)}

  def discriminate(self, params, stats, frozen, generated):
    (fake,), image = generated.fake, generated.batch['image']
    discriminate = functools.partial(self.discriminator.apply, {'params': params['d']})
    views = base.matching_aware(discriminate, 2 * image - 1, 2 * fake - 1, generated.text.sentence)
    embedding, regions = self.embed_images(frozen, image) if self.embed_images else (None, None)
    return dataclasses.replace(generated, real_embedding=embedding, real_regions=regions,
                               **views), stats

  def sample(self, params, stats, frozen, batch, z):
    return self.generator.apply({'params': params, **stats}, self.encode(frozen, batch), z, False)
