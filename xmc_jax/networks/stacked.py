"""What stacked text-to-image networks share: three scales, each generated from the one before.

The generator makes a small image, then twice reads the words again and doubles the size; each scale
has a discriminator of its own. AttnGAN (arXiv 1711.10485) and DM-GAN (arXiv 1904.01310) differ in
how they read words and in their discriminators. Sizes and the order of operations follow the
authors' released code.

The papers' images have 64, 128 and 256 px. For smaller ones the rule is ours: a last size of 64
px has the scales 16, 32 and 64, the first stage doubles 4x4 maps as often as needed and always ends
with `width` channels, and discriminators halve to 4x4.
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
from xmc_jax.layers.conv import leaky
from xmc_jax.layers.glu import GluResidual, GluUp, glu
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.layers.remat import maybe_remat
from xmc_jax.layers.resample import append_vector
from xmc_jax.layers.spectral import init_vectors, spectral_normalize
from xmc_jax.networks import base
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs, SplitForward, Text
from xmc_jax.types import Array, Batch, Tree

SIZES = (32, 64, 128, 256)      # sides of the last image
BASE = 4                        # side of the smallest map

# Stacked networks start with orthogonal kernels, and most of their convolutions have no biases.
Conv = functools.partial(conv.Conv, kernel_init=conv.ORTHOGONAL)
Dense = functools.partial(conv.Dense, kernel_init=conv.ORTHOGONAL)


def scales(size: int) -> tuple[int, int, int]:
  """Sides of the three images in pixels, the last of them `size`."""
  return size // 4, size // 2, size


def smaller(image: Array) -> tuple[Array, ...]:
  """An image [b, h, w, c] at all three scales, bilinear with antialiasing, as Pillow resizes."""
  b, size, _, c = image.shape
  resize = lambda side: jax.image.resize(image, (b, side, side, c), 'linear', antialias=True)
  return tuple(image if side == size else resize(side) for side in scales(size))


class Condition(nn.Module):
  """Conditioning augmentation: a normal distribution of each sentence, and a draw from it.

  Sentences [b, e] and standard normal noise [b, features] -> (draw, mean, log variance), each
  [b, features], float32 (Zhang et al. 2017, arXiv 1612.03242).
  """
  features: int

  @nn.compact
  def __call__(self, sentence: Array, noise: Array) -> tuple[Array, Array, Array]:
    mean, log_variance = jnp.split(glu(Dense(4 * self.features, name='moments')(sentence)), 2, -1)
    return mean + jnp.exp(log_variance / 2) * noise, mean, log_variance


class StackedGenerator(nn.Module):
  """Captions and noise -> images of three scales [b, s, s, 3] in [0, 1], float32.

  read: module (dtype=...) that is called with (map [b, s, s, width], words [b, t, e], mask) and
    gives [b, s, s, 2 width]. residuals: blocks of each later stage.
  """
  size: int
  width: int
  residuals: int
  read: Callable[..., nn.Module]
  noise_features: int = 100
  condition_features: int = 100
  bn_group_size: int | None = None
  impl: Impl = FAST
  remat: str = 'nothing'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, text: Text, z: Array, train: bool):
    """`z` [b, noise + condition features]: noise of the first stage, then of the condition.

    Returns (images, (mean, log variance) of the condition).
    """
    noise, draw = jnp.split(z, [self.noise_features], -1)
    condition, *latent = Condition(self.condition_features, name='condition')(text.sentence, draw)
    x = self._first(jnp.concatenate([condition, noise], -1), train)
    images = [self._image(x, 0)]
    for i in (1, 2):
      x = self._next(x, text, i, train)
      images.append(self._image(x, i))
    return tuple(images), tuple(latent)

  def _up(self, features: int, name: str) -> nn.Module:
    block = maybe_remat(GluUp, self.remat, static=(2,))      # its second argument is `train`
    return block(features, self.bn_group_size, self.impl, self.dtype, name=name)

  def _first(self, condition: Array, train: bool) -> Array:
    doublings = (scales(self.size)[0] // BASE).bit_length() - 1
    features = self.width << doublings
    x = Dense(2 * features * BASE * BASE, bias_init=None, dtype=self.dtype, name='start')(condition)
    x = glu(BatchNorm(self.bn_group_size, self.impl, name='norm_start')(x, train))
    x = x.reshape(-1, BASE, BASE, features)
    for i in range(1, doublings + 1):
      x = self._up(features >> i, f'up_0_{i}')(x, train)
    return x

  def _next(self, x: Array, text: Text, i: int, train: bool) -> Array:
    x = self.read(dtype=self.dtype, name=f'read_{i}')(x, text.words, text.mask)
    block = maybe_remat(GluResidual, self.remat, static=(2,))
    for j in range(self.residuals):
      x = block(self.bn_group_size, self.impl, self.dtype, name=f'residual_{i}_{j}')(x, train)
    return self._up(self.width, f'up_{i}')(x, train)

  def _image(self, x: Array, i: int) -> Array:
    x = Conv(3, impl=self.impl, dtype=self.dtype, name=f'pixels_{i}')(x)
    return (jnp.tanh(x.astype(jnp.float32)) + 1) / 2


class ScaleDiscriminator(nn.Module):
  """Logits for images [b, side, side, 3] in [0, 1] alone, and with each of several sentences.

  block: module (features, resize, name=...) that convolves 'same' or 'down' and normalizes; `first`
  is the one that meets the image. Channels are `width`, then double at each halving down to 4x4;
  3x3 blocks bring what is above 8 width down to it. Returns a logit [b] for the images alone and
  one [b] for each of `sentences`, [b, e] each.
  """
  side: int
  width: int
  block: Callable[..., nn.Module]
  first: Callable[..., nn.Module]
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, image: Array, sentences: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
    halvings = (self.side // BASE).bit_length() - 1
    x = leaky(self.first(self.width, 'down', name='down_0')((2 * image - 1).astype(self.dtype)))
    for i in range(1, halvings):
      x = leaky(self.block(self.width << i, 'down', name=f'down_{i}')(x))
    for i in range(halvings - 2, 2, -1):
      x = leaky(self.block(self.width << i, 'same', name=f'narrow_{i}')(x))
    joint = self.block(x.shape[-1], 'same', name='joint')
    alone, paired = (Conv(1, 'whole', bias_init=conv.fan_in_bias, dtype=self.dtype, name=name)
                     for name in ('logit_alone', 'logit_paired'))
    logit = lambda head, x: head(x)[:, 0, 0, 0].astype(jnp.float32)
    return logit(alone, x), tuple(logit(paired, leaky(joint(append_vector(x, sentence))))
                                  for sentence in sentences)


class StackedDiscriminator(nn.Module):
  """A `ScaleDiscriminator` per scale: a `DiscriminatorOutput` for each of the sentences."""
  size: int
  width: int
  block: Callable[..., nn.Module]
  first: Callable[..., nn.Module]
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, images: tuple[Array, ...], *sentences: Array
               ) -> tuple[DiscriminatorOutput, ...]:
    logits = []
    for i, (side, image) in enumerate(zip(scales(self.size), images)):
      discriminator = ScaleDiscriminator(side, self.width, self.block, self.first, self.dtype,
                                         name=f'scale_{i}')
      logits.append(discriminator(image, sentences))
    alone, paired = zip(*logits)
    return tuple(DiscriminatorOutput(each, unconditional=alone) for each in zip(*paired))


@dataclasses.dataclass(frozen=True)
class StackedNetworks(SplitForward):
  """Generator "g" and discriminator "d" of three scales, and the frozen text encoder.

  encode: (frozen, batch) -> Text.
  embed_images: (frozen, images) -> (embedding [b, d], regions [b, n, e]) of the frozen image
    network, or None.
  spectral: selects the discriminator's parameters whose kernels are spectrally normalized; all
    calls of a phase share one power iteration.

  There is a wrong pair for every example; the last image gets the first sentence. The released code
  has one pair less. Losses leave the last one out, but it takes part in batch normalization.
  """
  generator: StackedGenerator
  discriminator: StackedDiscriminator
  encode: Callable[[dict[str, Tree], Batch], Text]
  text_features: int
  embed_images: Callable[[dict[str, Tree], Array], tuple[Array, Array]] | None = None
  spectral: Callable[[Tree], Tree] = lambda params: {}

  @property
  def z_features(self) -> int:
    return self.generator.noise_features + self.generator.condition_features

  def init(self, rng: Array, batch: Batch) -> dict[str, Tree]:
    g_rng, d_rng, vector_rng = jax.random.split(rng, 3)
    text, size = base.text_zeros(batch, self.text_features), self.generator.size
    b = len(text.sentence)
    g = self.generator.init(g_rng, text, jnp.zeros((b, self.z_features)), True)
    d = self.discriminator.init(d_rng, smaller(jnp.zeros((b, size, size, 3))), text.sentence)
    if kernels := self.spectral(d['params']):
      d = {**d, 'spectral': init_vectors(vector_rng, kernels)}
    return {'g': g, 'd': d}

  def generate(self, params, stats, frozen, batch, rngs):
    text = self.encode(frozen, batch)
    z = base.normal_noise(rngs, self.z_features)
    (fake, latent), g_stats = self.generator.apply(
        {'params': params['g'], **stats['g']}, text, z, True, mutable=['batch_stats'])
    embedding, regions = self.embed_images(frozen, fake[-1]) if self.embed_images else (None, None)
    outputs = ForwardOutputs(batch, text, fake, latent=latent, fake_embedding=embedding,
                             fake_regions=regions)
    return outputs, stats | {'g': dict(g_stats)}

  def discriminate(self, params, stats, frozen, generated):
    image = generated.batch['image']
    views, d_stats = self._views(params['d'], stats['d'], smaller(image), generated.fake,
                                 generated.text.sentence)
    embedding, regions = self.embed_images(frozen, image) if self.embed_images else (None, None)
    outputs = dataclasses.replace(generated, real_embedding=embedding, real_regions=regions,
                                  **views)
    return outputs, stats | {'d': d_stats}

  def _views(self, params, stats, real, fake, sentence):
    """The discriminator's views of real, fake and wrong pairs, and its new statistics.

    Real and fake images pass it one after the other, each normalized by themselves.
    """
    others = {k: v for k, v in stats.items() if k != 'spectral'}
    discriminator, vectors = spectral_normalize(params, stats.get('spectral', {}), epsilon=1e-24)
    call = lambda others, *inputs: self.discriminator.apply(
        {'params': discriminator, **others}, *inputs, mutable=['batch_stats'])
    (d_real, d_wrong), others = call(others, real, sentence, jnp.roll(sentence, -1, 0))
    (d_fake,), others = call(others, fake, sentence)
    views = {'d_real': d_real, 'd_fake': d_fake, 'd_wrong': d_wrong}
    return views, {**others, **({'spectral': vectors} if vectors else {})}

  def sample(self, params, stats, frozen, batch, z):
    text = self.encode(frozen, batch)
    return self.generator.apply({'params': params, **stats}, text, z, False)[0][-1]
