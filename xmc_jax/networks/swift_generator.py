"""Swift's generator, and the encoder that reads its noise from an image; see `swift.py`.

Most of an image is decided on small maps, where arithmetic is cheap: the generator is wide at 4 to
16 px and narrow at 64, as in FastGAN (Liu et al., arXiv 2101.04775). An encoder reads the noise of
a real image, as in CVAE-GAN (Bao et al., arXiv 1703.10155), so that a fake can be compared with the
image itself. The sizes and the way these are put together are ours.
"""
from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers.conv import Conv, Dense, leaky, zero_bias
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.networks.base import Text
from xmc_jax.networks.swift_layers import Modulated, Reader, scaled_unit
from xmc_jax.networks.swift_objects import ObjectCodes, ObjectMap
from xmc_jax.types import Array
from xmc_jax.utils.arrays import unit

CONDITION = 256        # features of the condition that modulates every block
WORDS_AT = (8, 16)     # sides of the maps that attend to words
ATTENTION_AT = (4, 8)  # sides of the maps whose places can attend to one another
FINE = 96              # channels inside the blocks at half the size


class AttentionBlock(nn.Module):
  """Lets the places of a map [b, h, w, c] agree on what stands where; it begins as the identity.

  A transformer's block: every place reads the others, then the words, then passes a layer of twice
  its channels, modulated by the condition [b, d].
  """

  @nn.compact
  def __call__(self, x: Array, condition: Array, text: Text) -> Array:
    b, h, w, c = x.shape
    positions = self.param('positions', nn.initializers.normal(1.0), (h, w, c))
    reader = functools.partial(Reader, out_init=nn.initializers.zeros)
    places = scaled_unit(x) + positions
    x += reader(name='places')(places, places.reshape(b, h * w, c), jnp.ones((b, h * w), bool))
    x += reader(name='words')(scaled_unit(x) + positions, text.words, text.mask)
    y = Dense(2 * c, name='in')(Modulated(name='film')(x, condition))
    return x + Dense(c, kernel_init=nn.initializers.zeros, name='out')(nn.silu(y))


class SwiftBlock(nn.Module):
  """Residual block [b, h, w, c] -> [b, h, w, c]; it begins as the identity."""
  impl: Impl = FAST

  @nn.compact
  def __call__(self, x: Array, condition: Array) -> Array:
    conv = functools.partial(Conv, x.shape[-1], bias_init=zero_bias, impl=self.impl)
    y = conv(name='conv_in')(Modulated(name='film_in')(x, condition))
    y = Modulated(name='film_out')(y, condition)
    return x + conv(kernel_init=nn.initializers.zeros, name='conv_out')(y)


class FineBlock(nn.Module):
  """Residual block [b, h, w, c] -> [b, h, w, c] that reads words; it begins as the identity.

  Inside it has `features` channels.
  """
  features: int
  impl: Impl = FAST

  @nn.compact
  def __call__(self, x: Array, condition: Array, text: Text) -> Array:
    conv = functools.partial(Conv, bias_init=zero_bias, impl=self.impl)
    y = x + Reader(name='words')(x, text.words, text.mask)
    y = conv(self.features, name='conv_in')(Modulated(name='film_in')(y, condition))
    y = Modulated(name='film_out')(y, condition)
    return x + conv(x.shape[-1], kernel_init=nn.initializers.zeros, name='conv_out')(y)


class SwiftUpBlock(nn.Module):
  """Residual block [b, h, w, c] -> [b, 2h, 2w, features]; the shortcut is enlarged bilinearly."""
  features: int
  impl: Impl = FAST

  @nn.compact
  def __call__(self, x: Array, condition: Array) -> Array:
    b, h, w, _ = x.shape
    y = Modulated(name='film_in')(x, condition)
    conv = lambda resize, name: Conv(self.features, resize, bias_init=zero_bias, impl=self.impl,
                                     name=name)
    y = conv('up', 'conv_up')(y)
    y = Modulated(name='film_out')(y, condition)
    y = conv('same', 'conv_out')(y)
    small = Dense(self.features, name='shortcut')(x)
    return y + jax.image.resize(small, (b, 2 * h, 2 * w, self.features), 'linear')


class SwiftGenerator(nn.Module):
  """Captions and noise [b, z] -> images [b, size, size, 3] in [0, 1].

  widths: channels at 4 px, 8 px, … up to size / 2. last: channels at the full size. places: whether
  the noise is a map of 4 x 4 places too, each with its own part of it. attention: blocks in which
  the places of a map read one another and the words, on the maps of 4 and of 8 px. refine: further
  residual blocks after the words have been read, on each map that reads them. fine: blocks at half
  the size that read the words once more. kinds: of objects, which are drawn where a layout has
  them; 0: there is no layout.
  """
  widths: tuple[int, ...]
  places: bool = False
  attention: int = 0
  refine: int = 0
  fine: int = 0
  last: int = 24
  kinds: int = 0
  impl: Impl = FAST

  @nn.compact
  def __call__(self, text: Text, z: Array, objects: Array | None = None) -> Array:
    """objects: if there are `kinds`, a layout [b, k, 4] as of `data/layouts.py`."""
    condition = jnp.concatenate([scaled_unit(text.sentence), z], -1)
    for i in (0, 1):
      condition = nn.silu(Dense(CONDITION, name=f'mapping_{i}')(condition))
    x = Dense(16 * self.widths[0], name='start')(condition).reshape(len(z), 4, 4, -1)
    if self.places:
      x += Dense(self.widths[0], name='places')(z.reshape(len(z), 4, 4, -1))
    x = self.attend_places(x, condition, text)
    for i, width in enumerate(self.widths[1:]):
      x = SwiftUpBlock(width, self.impl, name=f'block_{i}')(x, condition)
      if x.shape[1] in WORDS_AT:
        x += Reader(name=f'words_{i}')(x, text.words, text.mask)
        x = self.attend_places(x, condition, text)
        for j in range(self.refine):
          x = SwiftBlock(self.impl, name=f'refine_{i}_{j}')(x, condition)
    for i in range(self.fine):
      x = FineBlock(FINE, self.impl, name=f'fine_{i}')(x, condition, text)
    x = Modulated(name='film_pixels')(x, condition)
    if self.kinds:      # unmodulated, for a thing looks the same in every image
      codes = ObjectCodes(self.kinds, name='codes')(objects, text)
      x = ObjectMap(name='objects')(x, objects, codes)
    conv = functools.partial(Conv, bias_init=zero_bias, impl=self.impl)
    x = nn.silu(conv(self.last, 'up', name='last')(x))
    return nn.sigmoid(conv(3, name='pixels')(x))

  def attend_places(self, x: Array, condition: Array, text: Text) -> Array:
    """A map [b, s, s, c] after the attention blocks of its side, if it has any."""
    side = x.shape[1]
    for j in range(self.attention if side in ATTENTION_AT else 0):
      x = AttentionBlock(name=f'attention_{side}_{j}')(x, condition, text)
    return x


class Encoder(nn.Module):
  """Images [b, s, s, 3] in [0, 1] and sentences [b, e] -> mean, log variance [b, z] of noise."""
  z_features: int
  places: bool = False      # as the generator's: each place is read from its part of the image

  @nn.compact
  def __call__(self, image: Array, sentence: Array) -> tuple[Array, Array]:
    h = leaky(nn.Conv(32, (8, 8), (4, 4), name='conv_0')(2 * image - 1))
    h = nn.Conv(64, (3, 3), (2, 2), name='conv_1')(h)
    h = leaky(h + Dense(64, name='sentence')(unit(sentence))[:, None, None])
    h = leaky(nn.Conv(96, (3, 3), (2, 2), name='conv_2')(h))
    h = h.reshape(len(h), 16 if self.places else 1, -1)
    out = nn.Dense(2 * self.z_features // h.shape[1], kernel_init=nn.initializers.normal(0.01),
                   name='out')(h)
    mean, log_variance = (x.reshape(len(h), -1) for x in jnp.split(out, 2, -1))
    return mean, jnp.clip(log_variance, -8, 4)
