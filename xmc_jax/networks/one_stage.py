"""What DF-GAN and SSA-GAN share: their discriminator, and how both networks are run.

The discriminator halves an image to a map of 4x4, to which the sentence is appended, and gives one
logit for both together: the one-way output of DF-GAN (arXiv 2008.05865, CVPR 2022). Sizes and the
order of operations follow the authors' released code.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers import conv
from xmc_jax.layers.conv import FAN_IN, fan_in_bias, leaky
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.layers.resample import append_vector, average_pool
from xmc_jax.networks import base
from xmc_jax.networks.base import ForwardOutputs, SplitForward, Text
from xmc_jax.types import Array, Batch, Tree

SIZES = (32, 64, 128, 256)
BASE = 4                # side of the smallest map

# As in torch, kernels and biases start uniform in +-1 / sqrt(fan in).
Conv = functools.partial(conv.Conv, kernel_init=FAN_IN)
Dense = functools.partial(conv.Dense, kernel_init=FAN_IN, bias_init=fan_in_bias)


def down_multiples(size: int, widest: int) -> tuple[int, ...]:
  """Channels after each halving of a discriminator, in multiples of its width, down to 4x4."""
  return tuple(min(2 << i, widest) for i in range((size // BASE).bit_length() - 1))


class OneStageDownBlock(nn.Module):
  """Residual block of half the size, [b, h, w, c] -> [b, h / 2, w / 2, features].

  Where the number of channels stays the same, the shortcut has weights that are not used. The
  released code has them too, in its parameter counts and files.
  """
  features: int
  impl: Impl
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array) -> Array:
    convolve = lambda how, name: Conv(self.features, how, impl=self.impl, dtype=self.dtype,
                                      name=name)
    h = leaky(convolve('down', 'conv_down')(x))
    h = leaky(convolve('same', 'conv')(h))
    small = average_pool(x)         # a 1x1 convolution commutes with it
    shortcut = Dense(self.features, dtype=self.dtype, name='shortcut')(small)
    gate = self.param('gate', nn.initializers.zeros, ())
    return (small if x.shape[-1] == self.features else shortcut) + gate.astype(self.dtype) * h


class OneStageDiscriminator(nn.Module):
  """Images [b, size, size, 3] in [-1, 1] and several sentences -> a logit [b] for each.

  widest: the most channels of a map, in multiples of the width.
  """
  size: int
  width: int
  widest: int
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, image: Array, *sentences: Array) -> tuple[Array, ...]:
    convolve = functools.partial(Conv, impl=self.impl, dtype=self.dtype)
    x = convolve(self.width, bias_init=fan_in_bias, name='start')(image)
    for i, multiple in enumerate(down_multiples(self.size, self.widest)):
      x = OneStageDownBlock(multiple * self.width, self.impl, self.dtype, name=f'block_{i}')(x)
    joint, logit = convolve(2 * self.width, name='joint'), convolve(1, 'whole', name='logit')
    return tuple(logit(leaky(joint(append_vector(x, sentence))))[:, 0, 0, 0].astype(jnp.float32)
                 for sentence in sentences)


@dataclasses.dataclass(frozen=True)
class OneStageNetworks(SplitForward):
  """Generator "g" and discriminator "d", with the frozen text encoder in front of both.

  generator: a module with a `size`: (Text, noise [b, z], train) -> images [b, size, size, 3] in
    [0, 1].
  encode: (frozen, batch) -> Text.
  embed_images: (frozen, images) -> (embedding [b, d], regions [b, n, e]) of the frozen image
    network, or None.
  """
  generator: nn.Module
  discriminator: OneStageDiscriminator
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
