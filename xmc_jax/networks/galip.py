"""GALIP: a frozen CLIP inside both the discriminator and the generator (arXiv 2301.12959).

The discriminator reads intermediate feature maps of CLIP's image transformer instead of images. The
generator predicts a map like that of image patches, runs it through the same transformer with
learned prompts in most layers, and builds the image from the sum of both, by the blocks of DF-GAN.
Published images have 224 px, the input size of CLIP. Sizes and the order of operations follow the
authors' released code, which has no normalization layers and no tanh at the output.

For other transformers and sizes the rules are ours. The feature layers, the 2nd, 5th and 9th of
ViT-B/32's 12, are those at or after the same fractions of the depth; prompts go to the layers from
the first of them to the last. The generator doubles its maps from the grid of patches, through
powers of two, to the size of the images; its last three blocks halve the channels.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.encoders import clip, clip_inputs
from xmc_jax.layers.conv import FAN_IN, fan_in_bias, leaky
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.layers.remat import maybe_remat
from xmc_jax.layers.resample import append_vector
from xmc_jax.networks import base
from xmc_jax.networks.base import ForwardOutputs, SplitForward, Text
from xmc_jax.networks.df_gan import WIDEST, Fuse, FuseUpBlock, multiples
from xmc_jax.networks.one_stage import Conv, Dense
from xmc_jax.types import Array, Batch, Tree

SIZES = (32, 64, 128, 224, 256)
FEATURE_LAYERS, DEPTH = (2, 5, 9), 12     # layers of ViT-B/32 that are read, from 1, and of all
LEAST_LAYERS, LEAST_GRID = 3, 4
BRIDGES = 4                      # blocks before the transformer
CLIP_SHARE = 0.1                 # weight of the transformer's map in the sum


def feature_layers(layers: int) -> tuple[int, ...]:
  """Indices of the layers whose feature maps are used, of a transformer with `layers`."""
  return tuple(-(-layers * tap // DEPTH) - 1 for tap in FEATURE_LAYERS)


def sides(grid: int, size: int) -> tuple[int, ...]:
  """Sides of the generator's maps after each block, from a grid of patches to an image."""
  powers = [2 ** i for i in range(grid.bit_length(), size.bit_length()) if 2 ** i < size]
  return (*powers, size)


def _large(x: Array, features: int, side: int, name: str, dtype, *, padding='SAME',
           bias: bool = True) -> Array:
  """A convolution with a kernel of another size than those of `Conv`, initialized as in torch."""
  return nn.Conv(features, (side, side), padding=padding, use_bias=bias, dtype=dtype,
                 kernel_init=FAN_IN, bias_init=fan_in_bias(side * side * x.shape[-1]),
                 name=name)(x)


class BridgeBlock(nn.Module):
  """Residual block [b, h, w, c] -> [b, h, w, c] with a bottleneck of half of the channels."""
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, condition: Array) -> Array:
    h, channels = x, x.shape[-1]
    for where, features in (('in', channels // 2), ('out', channels)):
      h = Conv(features, bias_init=fan_in_bias, dtype=self.dtype, name=f'conv_{where}')(h)
      h = Fuse(self.dtype, name=f'fuse_{where}')(h, condition)
    return x + h


class GalipGenerator(nn.Module):
  """Sentences and noise -> images [b, size, size, 3], float32, about in [-1, 1].

  network: the sizes of the CLIP whose image transformer the generator uses.
  """
  size: int
  width: int
  network: clip.ClipConfig
  impl: Impl = FAST
  remat: str = 'nothing'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, run_clip: Callable[[Array, Array, int], Array], sentence: Array,
               z: Array) -> Array:
    """run_clip: `clip.Clip.run_clip` with its weights. sentence [b, d], z [b, z]."""
    grid, e = self.network.grid, self.network.image.width
    first, *_, last = feature_layers(self.network.image.layers)
    condition = jnp.concatenate([z, sentence], -1).astype(self.dtype)
    x = Dense(self.width * grid * grid, dtype=self.dtype, name='start')(z)
    x = x.reshape(-1, grid, grid, self.width)
    for i in range(BRIDGES):
      x = BridgeBlock(self.dtype, name=f'bridge_{i}')(x, condition)
    bridge = _large(x, e, 5, 'bridge', self.dtype)
    prompts = Dense((last - first + 1) * e, dtype=self.dtype, name='prompts')(condition)
    from_clip = run_clip(bridge.astype(jnp.float32),
                         prompts.reshape(len(z), -1, e).astype(jnp.float32), first)
    x = _large(bridge + CLIP_SHARE * from_clip.astype(self.dtype), WIDEST * self.width, 5, 'join',
               self.dtype)
    block, along = maybe_remat(FuseUpBlock, self.remat), sides(grid, self.size)
    for i, (side, multiple) in enumerate(zip(along, multiples(len(along)), strict=True)):
      x = block(multiple * self.width, side, self.impl, self.dtype, name=f'block_{i}')(
          x, condition)
    x = Conv(3, bias_init=fan_in_bias, dtype=self.dtype, name='pixels')(leaky(x))
    return x.astype(jnp.float32)


class Reading(nn.Module):
  """Residual block of a map [b, g, g, c] with a gate that is zero at initialization.

  Where the number of channels stays the same, the shortcut has weights that are not used. The
  released code has them too, in its parameter counts and files.
  """
  features: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, other: Array | None = None) -> Array:
    """other: a map of the same shape, added with a gate of its own."""
    h = leaky(Conv(self.features, dtype=self.dtype, name='conv_in')(x))
    h = leaky(Conv(self.features, dtype=self.dtype, name='conv_out')(h))
    gate = lambda name: self.param(name, nn.initializers.zeros, ()).astype(self.dtype)
    shortcut = Dense(self.features, dtype=self.dtype, name='shortcut')(x)
    x = (x if x.shape[-1] == self.features else shortcut) + gate('gate') * h
    return x if other is None else x + gate('gate_other') * other


class GalipDiscriminator(nn.Module):
  """Feature maps of CLIP [b, k, g, g, e] and several sentences -> a logit [b] per sentence."""
  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, maps: Array, *sentences: Array) -> tuple[Array, ...]:
    x, *others = jnp.moveaxis(maps.astype(self.dtype), 1, 0)
    for i, other in enumerate(others):
      x = Reading(x.shape[-1], self.dtype, name=f'read_{i}')(x, other)
    x = Reading(WIDEST * self.width, self.dtype, name='read_out')(x)
    left = x.shape[1] - LEAST_GRID + 1       # side of the map after a convolution of 4x4
    head = _Head(2 * self.width, left, self.dtype, name='head')
    return tuple(head(x, sentence) for sentence in sentences)


class _Head(nn.Module):
  """A map [b, g, g, c], with a sentence [b, d] appended at every position -> logits [b]."""
  features: int
  left: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, sentence: Array) -> Array:
    whole = functools.partial(_large, dtype=self.dtype, padding='VALID', bias=False)
    h = leaky(whole(append_vector(x, sentence), self.features, LEAST_GRID, 'joint'))
    return whole(h, 1, self.left, 'logit')[:, 0, 0, 0].astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class GalipNetworks(SplitForward):
  """Generator "g" and discriminator "d", with the frozen CLIP `frozen["clip"]` in both.

  clip_input: how images are normalized for CLIP, see `clip_inputs.preprocess_on_device`.
  """
  generator: GalipGenerator
  discriminator: GalipDiscriminator
  network: clip.Clip
  clip_input: str = 'single'
  z_features: int = 100

  def init(self, rng: Array, batch: Batch) -> dict[str, Tree]:
    (g_rng, d_rng), rows, sizes = jax.random.split(rng), len(batch['tokens']), self.network.config
    sentence = jnp.zeros((rows, sizes.size))
    maps = jnp.zeros((rows, len(FEATURE_LAYERS), sizes.grid, sizes.grid, sizes.image.width))
    g = self.generator.init(g_rng, lambda x, prompts, first: x, sentence,
                            jnp.zeros((rows, self.z_features)))
    return {'g': g, 'd': self.discriminator.init(d_rng, maps, sentence)}

  def generate(self, params, stats, frozen, batch, rngs):
    """The outputs of fakes, and CLIP's feature maps of them."""
    text = self._encode_text(frozen, batch)
    z = base.normal_noise(rngs, self.z_features)
    fake = self._generate(params['g'], frozen, text.sentence, z)
    embedding, maps = self._embed_images(frozen, fake)
    return (ForwardOutputs(batch, text, (fake,), fake_embedding=embedding), maps), stats

  def discriminate(self, params, stats, frozen, generated):
    outputs, fakes = generated
    embedding, real = self._embed_images(frozen, outputs.batch['image'])
    discriminate = functools.partial(self.discriminator.apply, {'params': params['d']})
    views = base.matching_aware(discriminate, real, fakes, outputs.text.sentence)
    return dataclasses.replace(outputs, real_embedding=embedding, **views), stats

  def sample(self, params, stats, frozen, batch, z):
    sentence = self._encode_text(frozen, batch).sentence
    return jnp.clip(self._generate(params, frozen, sentence, z), 0, 1)

  def _encode_text(self, frozen: dict[str, Tree], batch: Batch) -> Text:
    words, sentence = self.network.apply(frozen['clip'], batch['tokens'], method='token_features')
    return Text(words, batch['mask'], sentence)

  def _embed_images(self, frozen: dict[str, Tree], images: Array) -> tuple[Array, Array]:
    """Embeddings [b, d] and feature maps of images [b, s, s, 3] in [0, 1]."""
    pixels = clip_inputs.preprocess_on_device(images, self.network.config.side, self.clip_input)
    layers = feature_layers(self.network.config.image.layers)
    return self.network.apply(frozen['clip'], pixels, layers, method='image_features')

  def _generate(self, params: Tree, frozen: dict[str, Tree], sentence: Array, z: Array) -> Array:
    """Images in [0, 1] and beyond."""
    run_clip = functools.partial(self.network.apply, frozen['clip'], method='forward_with_prompts')
    return (self.generator.apply({'params': params}, run_clip, sentence, z) + 1) / 2
