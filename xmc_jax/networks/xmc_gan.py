"""XMC-GAN: attentional self-modulation generator and contrastive discriminator (arXiv 2101.04702).

Sizes and orders of operations follow the released code of 2021 where paper and code differ.
The paper trains 128 and 256 px; the tables for 32 and 64 px are ours, in the same spirit.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers.attention import word_context
from xmc_jax.layers.conv import Conv, Dense, zero_bias
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.layers.norm import ConditionalNorm, LocalConditionalNorm
from xmc_jax.layers.per_device import per_device
from xmc_jax.layers.remat import maybe_remat
from xmc_jax.layers.resample import append_vector, average_pool, nearest_up
from xmc_jax.layers.spectral import init_vectors, spectral_normalize
from xmc_jax.networks import base
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs, Text
from xmc_jax.types import Array, Batch, Tree

# Channels after each block, in multiples of the width, by side of the image in pixels.
UP_MULTIPLES = {32: (4, 2, 1), 64: (8, 4, 2, 1), 128: (16, 8, 4, 2, 1), 256: (16, 8, 8, 4, 2, 1)}
DOWN_MULTIPLES = {32: (2, 4, 4), 64: (2, 4, 8, 8), 128: (2, 4, 8, 16, 16),
                  256: (2, 4, 8, 8, 16, 16)}     # after a first block of multiple 1
REGION_SIDE = 16    # words meet images on a 16 x 16 map


class XmcUpBlock(nn.Module):
  """Residual block [b, h, w, c] -> [b, 2h, 2w, features], modulated by a condition."""
  features: int
  norm: type[nn.Module]
  bn_group_size: int | None
  impl: Impl
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, condition, train):
    norm = lambda name: self.norm(self.bn_group_size, self.impl, self.dtype, name=name)
    conv = lambda resize, name: Conv(self.features, resize, bias_init=zero_bias, impl=self.impl,
                                     dtype=self.dtype, name=name)
    h = nn.relu(norm('norm_in')(x, condition, train))
    h = conv('up', 'conv_up')(h)
    h = nn.relu(norm('norm_out')(h, condition, train))
    h = conv('same', 'conv_out')(h)
    shortcut = Dense(self.features, dtype=self.dtype, name='shortcut')
    # A 1x1 convolution commutes with nearest upsampling: a quarter of the work on the small side.
    small = self.impl.shortcut == 'small'
    return h + (nearest_up(shortcut(x)) if small else shortcut(nearest_up(x)))


class XmcGenerator(nn.Module):
  """Captions and noise -> images [b, size, size, 3] in [0, 1], float32."""
  size: int
  width: int
  sentence_features: int = 128
  bn_group_size: int | None = None
  impl: Impl = FAST
  remat: str = 'nothing'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, text: Text, z: Array, train: bool) -> Array:
    """`z` [b, z features], standard normal in training."""
    b, multiples = z.shape[0], UP_MULTIPLES[self.size]
    z = z.astype(self.dtype)
    sentence = Dense(self.sentence_features, dtype=self.dtype, name='sentence')(text.sentence)
    condition = jnp.concatenate([sentence, z], -1)               # the global condition
    up_block = maybe_remat(XmcUpBlock, self.remat, static=(3,))    # its third argument is `train`
    block = lambda i, norm: up_block(multiples[i] * self.width, norm, self.bn_group_size, self.impl,
                                     self.dtype, name=f'block_{i}')

    x = Dense(16 * multiples[0] * self.width, dtype=self.dtype, name='start')(z)
    x = x.reshape(b, 4, 4, multiples[0] * self.width)
    for i in (0, 1):                                             # 4 -> 8 -> 16 px
      x = block(i, ConditionalNorm)(x, condition, train)

    regions = Dense(text.words.shape[-1], dtype=self.dtype, name='regions')(x)
    words = word_context(regions.reshape(b, -1, regions.shape[-1]), text.words, text.mask)
    words = words.reshape(regions.shape).astype(self.dtype)
    spatial = append_vector(words, condition)                    # the spatial condition
    for i in range(2, len(multiples)):
      x = block(i, LocalConditionalNorm)(x, spatial, train)

    x = LocalConditionalNorm(self.bn_group_size, self.impl, self.dtype, name='norm_out')(
        x, spatial, train)
    x = Conv(3, bias_init=zero_bias, impl=self.impl, dtype=self.dtype,
             name='conv_out')(nn.relu(x))
    return (jnp.tanh(x.astype(jnp.float32)) + 1) / 2


class XmcDownBlock(nn.Module):
  """Residual block of the discriminator, to half the size unless `keep_size`.

  first: no ReLU on the image itself, and the shortcut pools before its convolution.
  """
  features: int
  first: bool
  keep_size: bool
  impl: Impl
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x):
    conv = lambda resize, name: Conv(self.features, resize, bias_init=zero_bias, impl=self.impl,
                                     dtype=self.dtype, name=name)
    h = conv('same', 'conv_in')(x if self.first else nn.relu(x))
    h = conv('same' if self.keep_size else 'pool', 'conv_pool')(nn.relu(h))
    if self.keep_size and x.shape[-1] == self.features:
      return x + h
    shortcut = Dense(self.features, dtype=self.dtype, name='shortcut')
    if self.keep_size:
      return shortcut(x) + h
    # Average pooling and a 1x1 convolution commute: pool first, a quarter of the work.
    pool_first = self.first or self.impl.shortcut == 'small'
    return (shortcut(average_pool(x)) if pool_first else average_pool(shortcut(x))) + h


class XmcDiscriminator(nn.Module):
  """Images [b, size, size, 3] in [0, 1] and sentences [b, e] -> `DiscriminatorOutput`.

  A plain network; the caller applies it to spectrally normalized parameters.
  """
  size: int
  width: int
  impl: Impl = FAST
  remat: str = 'nothing'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, image: Array, text: Text) -> DiscriminatorOutput:
    multiples = (1, *DOWN_MULTIPLES[self.size])
    block = maybe_remat(XmcDownBlock, self.remat)
    x = image.astype(self.dtype)
    for i, multiple in enumerate(multiples):
      x = block(multiple * self.width, i == 0, i == len(multiples) - 1, self.impl, self.dtype,
                name=f'block_{i}')(x)
      if x.shape[1] == REGION_SIDE:
        middle = x
    regions = Dense(text.words.shape[-1], dtype=self.dtype, name='regions')(middle)
    features = jnp.sum(nn.relu(x).astype(jnp.float32), (1, 2))
    sentence = Dense(features.shape[-1], dtype=self.dtype, name='sentence')(text.sentence)
    sentence = sentence.astype(jnp.float32)
    logit = Dense(1, name='logit')(features)[:, 0] + jnp.sum(features * sentence, -1)
    regions = regions.reshape(x.shape[0], -1, regions.shape[-1])
    return DiscriminatorOutput((logit,), features, regions, sentence)


@dataclasses.dataclass(frozen=True)
class XmcNetworks(base.Forward, base.GeneratorNetworks):
  """Generator "g" and discriminator "d", with the frozen text encoder in front of both.

  encode: (frozen, batch) -> Text, of training captions. text_features: e of it. encode_any: the
  same of any caption, or None if encode does that. embed_image: (frozen, images) -> [b, d] by the
  frozen image network, or None. augment: (rngs, images) -> images, before the discriminator, on
  real and fake.
  """
  size: int
  width: int
  encode: Callable[[dict[str, Tree], Batch], Text]
  text_features: int
  encode_any: Callable[[dict[str, Tree], Batch], Text] | None = None
  embed_image: Callable[[dict[str, Tree], Array], Array] | None = None
  augment: Callable[[Array, Array], Array] = lambda rngs, x: x
  z_features: int = 128
  bn_group_size: int | None = None
  impl: Impl = FAST
  remat: str = 'nothing'
  dtype: jnp.dtype = jnp.float32

  @property
  def generator(self) -> XmcGenerator:
    return XmcGenerator(self.size, self.width, bn_group_size=self.bn_group_size, impl=self.impl,
                        remat=self.remat, dtype=self.dtype)

  @property
  def discriminator(self) -> XmcDiscriminator:
    return XmcDiscriminator(self.size, self.width, self.impl, self.remat, self.dtype)

  def init(self, rng: Array, batch: Batch) -> dict[str, Tree]:
    g_rng, d_rng, vector_rng = jax.random.split(rng, 3)
    text = base.text_zeros(batch, self.text_features)
    b = len(text.sentence)
    z = jnp.zeros((b, self.z_features))
    image = jnp.zeros((b, self.size, self.size, 3))
    g = self.generator.init(g_rng, text, z, True)
    d = self.discriminator.init(d_rng, image, text)
    return {'g': g, 'd': {**d, 'spectral': init_vectors(vector_rng, d['params'])}}

  def forward(self, params, stats, frozen, batch, rngs):
    z_rngs, real_rngs, fake_rngs = jax.vmap(lambda rng: jax.random.split(rng, 3), out_axes=1)(rngs)
    text = self.encode(frozen, batch)
    z = base.normal_noise(z_rngs, self.z_features)
    fake, g_stats = self.generator.apply({'params': params['g'], **stats['g']}, text, z, True,
                                         mutable=['batch_stats'])
    weights, vectors = spectral_normalize(params['d'], stats['d']['spectral'])
    # Both calls share weights that are cast here, so that devices exchange one sum of gradients,
    # which are added in `dtype`.
    weights = {name: layer if name == 'logit' else jax.tree.map(
        lambda x: x.astype(self.dtype), layer) for name, layer in weights.items()}
    images = self.augment(real_rngs, batch['image']), self.augment(fake_rngs, fake)
    d_real, d_fake = per_device(self.discriminate, weights, images, text)
    embed = self.embed_image or (lambda frozen, images: None)
    outputs = ForwardOutputs(
        batch, text, (fake,), d_real, d_fake, real_embedding=embed(frozen, batch['image']),
        fake_embedding=embed(frozen, fake))
    return outputs, stats | {'g': dict(g_stats), 'd': {'spectral': vectors}}

  def discriminate(self, weights: Tree, images: tuple[Array, ...], text: Text
                   ) -> tuple[DiscriminatorOutput, ...]:
    """Outputs for real and for fake images, in two calls (the discriminator has no BatchNorm).

    The generator's loss is then differentiated through the fakes only.
    """
    return tuple(self.discriminator.apply({'params': weights}, x, text) for x in images)

  def sample(self, params, stats, frozen, batch, z):
    text = (self.encode_any or self.encode)(frozen, batch)
    return self.generator.apply({'params': params, **stats}, text, z, False)
