"""GALIP: a frozen CLIP inside both the discriminator and the generator (arXiv 2301.12959).

The discriminator reads maps from inside CLIP's image transformer instead of images. The generator
makes a map that is like one of patches, sends it through the same transformer with a prompt of its
own in most layers, and draws from the sum of both; the published images have 224 px, since CLIP
sees so many. Sizes and orders of operations follow the authors' released code; it has no
normalisation, and its images no tanh.

For other transformers and sizes the rules are ours. The layers that are read, the 2nd, 5th and 9th
of ViT-B/32's 12, are those at or after the same shares of the depth; prompted are the layers from
the first of them to the last. The generator doubles from the grid of patches, by way of the powers
of two, to the size of the images; its last three blocks halve the channels.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from xmc_jax.encoders import clip, clip_inputs
from xmc_jax.layers import conv
from xmc_jax.layers.conv import FAN_IN, constant_dense, fan_in_bias
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.layers.remat import maybe_remat
from xmc_jax.layers.resample import nearest_up
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs, SplitForward, Text
from xmc_jax.types import Array, Batch, Tree

SIZES = (32, 64, 128, 224, 256)
FEATURE_LAYERS, DEPTH = (
  (2, 5, 9),
  12,
)  # layers of ViT-B/32 that the discriminator reads, counted from 1, of all
LEAST_LAYERS, LEAST_GRID = 3, 4
BRIDGES = 4                      # blocks before the transformer
RETOLD = 0.1                     # share of the transformer's map in the sum
MULTIPLE = 8                     # widest channels, in multiples of the width

# As in torch, kernels and biases start uniform in +-1 / sqrt(fan in).
Conv = functools.partial(conv.Conv, kernel_init=FAN_IN)
Dense = functools.partial(conv.Dense, kernel_init=FAN_IN, bias_init=fan_in_bias)

leaky = functools.partial(nn.leaky_relu, negative_slope=0.2)


def feature_layers(layers: int) -> tuple[int, ...]:
  """The layers that are read of a transformer of so many, counted from 0."""
  return tuple(-(-layers * tap // DEPTH) - 1 for tap in FEATURE_LAYERS)


def sides(grid: int, size: int) -> tuple[int, ...]:
  """Sides of the generator's maps after each block, from a grid of patches to an image."""
  powers = [2 ** i for i in range(grid.bit_length(), size.bit_length()) if 2 ** i < size]
  return (*powers, size)


def multiples(blocks: int) -> tuple[int, ...]:
  """Channels after each block of a generator, in multiples of its width."""
  return tuple(min(MULTIPLE, 2 ** (blocks - 1 - i)) for i in range(blocks))


def _large(x: Array, features: int, side: int, name: str, dtype, *, padding='SAME',
           bias: bool = True) -> Array:
  """A convolution that `Conv` has no name for, which starts as torch's do."""
  return nn.Conv(features, (side, side), padding=padding, use_bias=bias, dtype=dtype,
                 kernel_init=FAN_IN, bias_init=fan_in_bias(side * side * x.shape[-1]),
                 name=name)(x)


def resize_nearest(x: Array, side: int) -> Array:
  """Maps [b, s, s, c] of another side: pixel i is the old one of floor(i s / side), as torch's."""
  if side % x.shape[1] == 0:
    return nearest_up(x, side // x.shape[1])
  kept = np.arange(side) * x.shape[1] // side
  return x[:, kept][:, :, kept]


class Fuse(nn.Module):
  """Twice: scale and shift each channel of x [b, h, w, c] by a condition [b, e], then leaky ReLU.

  Begins as the leaky ReLUs alone.
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


class BridgeBlock(nn.Module):
  """Residual block of one size through half of the channels, [b, h, w, c] -> [b, h, w, c]."""
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, condition: Array) -> Array:
    h, channels = x, x.shape[-1]
    for where, features in (('in', channels // 2), ('out', channels)):
      h = Conv(features, bias_init=fan_in_bias, dtype=self.dtype, name=f'conv_{where}')(h)
      h = Fuse(self.dtype, name=f'fuse_{where}')(h, condition)
    return x + h


class GalipUpBlock(nn.Module):
  """Residual block, [b, h, w, c] -> [b, side, side, features].

  The released code enlarges first. What is between that and the first convolution looks at single
  pixels, so here it comes before, and doubling is one operation with the convolution.
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


class GalipGenerator(nn.Module):
  """Sentences and noise -> images [b, size, size, 3], float32, [-1, 1] and a little beyond.

  network: the sizes of the CLIP whose image transformer is passed through.
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
    x = _large(bridge + RETOLD * from_clip.astype(self.dtype), MULTIPLE * self.width, 5, 'join',
               self.dtype)
    block, along = maybe_remat(GalipUpBlock, self.remat), sides(grid, self.size)
    for i, (side, multiple) in enumerate(zip(along, multiples(len(along)), strict=True)):
      x = block(multiple * self.width, side, self.impl, self.dtype, name=f'block_{i}')(
          x, condition)
    x = Conv(3, bias_init=fan_in_bias, dtype=self.dtype, name='pixels')(leaky(x))
    return x.astype(jnp.float32)


class Reading(nn.Module):
  """Adds to a map [b, g, g, c] what two convolutions say of it; begins as the map, or a linear one.

  Where the channels stay the same the shortcut has weights that nothing reads: so it is in the
  released code, whose counts and files have them.
  """
  features: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, other: Array | None = None) -> Array:
    """other: a map of the same shape that is added too, by a gate."""
    h = leaky(Conv(self.features, dtype=self.dtype, name='conv_in')(x))
    h = leaky(Conv(self.features, dtype=self.dtype, name='conv_out')(h))
    gate = lambda name: self.param(name, nn.initializers.zeros, ()).astype(self.dtype)
    shortcut = Dense(self.features, dtype=self.dtype, name='shortcut')(x)
    x = (x if x.shape[-1] == self.features else shortcut) + gate('gate') * h
    return x if other is None else x + gate('gate_other') * other


class GalipDiscriminator(nn.Module):
  """Maps of CLIP [b, k, g, g, e] and several sentences -> a logit [b] for each of them."""
  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, maps: Array, *sentences: Array) -> tuple[Array, ...]:
    x, *others = jnp.moveaxis(maps.astype(self.dtype), 1, 0)
    for i, other in enumerate(others):
      x = Reading(x.shape[-1], self.dtype, name=f'read_{i}')(x, other)
    x = Reading(MULTIPLE * self.width, self.dtype, name='read_out')(x)
    left = x.shape[1] - LEAST_GRID + 1       # side of the map after a convolution of 4x4
    head = _Head(2 * self.width, left, self.dtype, name='head')
    return tuple(head(x, sentence) for sentence in sentences)


class _Head(nn.Module):
  """A map [b, g, g, c] with a sentence [b, d] in each place -> logits [b]."""
  features: int
  left: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, sentence: Array) -> Array:
    everywhere = jnp.broadcast_to(sentence[:, None, None].astype(self.dtype),
                                  (*x.shape[:3], sentence.shape[-1]))
    whole = functools.partial(_large, dtype=self.dtype, padding='VALID', bias=False)
    h = leaky(whole(jnp.concatenate([x, everywhere], -1), self.features, LEAST_GRID, 'joint'))
    return whole(h, 1, self.left, 'logit')[:, 0, 0, 0].astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class GalipNetworks(SplitForward):
  """Generator "g" and discriminator "d", with the frozen CLIP `frozen["clip"]` in both.

  clip_input: how images come to CLIP, as of `clip_inputs.preprocess_on_device`.
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
    z = jax.vmap(lambda rng: jax.random.normal(rng, (self.z_features,)))(rngs)
    fake = self._generate(params['g'], frozen, text.sentence, z)
    embedding, maps = self._embed_images(frozen, fake)
    return (ForwardOutputs(batch, text, (fake,), fake_embedding=embedding), maps), stats

  def discriminate(self, params, stats, frozen, generated):
    outputs, fakes = generated
    text = outputs.text
    embedding, real = self._embed_images(frozen, outputs.batch['image'])
    discriminate = lambda maps, *sentences: self.discriminator.apply(
      {'params': params['d']}, maps, *sentences
    )
    views = [DiscriminatorOutput((logit,)) for logit in
             (*discriminate(real, text.sentence, jnp.roll(text.sentence, -1, 0)),
              *discriminate(fakes, text.sentence))]
    # Rows do not see each other in the discriminator: the gradient of the sum has that of every
    # row.
    gradients = jax.grad(lambda *pair: jnp.sum(discriminate(*pair)[0]), (0, 1))(real, text.sentence)
    grad_norm_sq = sum(jnp.sum(jnp.square(x), tuple(range(1, x.ndim))) for x in gradients)
    return dataclasses.replace(
      outputs,
      d_real=views[0],
      d_wrong=views[1],
      d_fake=views[2],
      grad_norm_sq=grad_norm_sq,
      real_embedding=embedding,
    ), stats

  def sample(self, params, stats, frozen, batch, z):
    return jnp.clip(
      self._generate(params, frozen, self._encode_text(frozen, batch).sentence, z), 0, 1
    )

  def _encode_text(self, frozen: dict[str, Tree], batch: Batch) -> Text:
    words, sentence = self.network.apply(frozen['clip'], batch['tokens'], method='token_features')
    return Text(words, batch['mask'], sentence)

  def _embed_images(self, frozen: dict[str, Tree], images: Array) -> tuple[Array, Array]:
    """Embeddings [b, d] and feature maps of images [b, s, s, 3] in [0, 1]."""
    pixels = clip_inputs.preprocess_on_device(images, self.network.config.side, self.clip_input)
    return self.network.apply(
      frozen['clip'],
      pixels,
      feature_layers(self.network.config.image.layers),
      method='image_features',
    )

  def _generate(self, params: Tree, frozen: dict[str, Tree], sentence: Array, z: Array) -> Array:
    """Images in [0, 1] and beyond."""
    run_clip = lambda *given: self.network.apply(
      frozen['clip'], *given, method='forward_with_prompts'
    )
    return (self.generator.apply({'params': params}, run_clip, sentence, z) + 1) / 2
