"""A matching network: whether a caption is true of an image.

It chooses among images of a caption, and a generator can learn from it.

The words of the caption read the places of the image twice, and one number is made of all words.
The idea of a network that reads both and tells true pairs from hard wrong ones is that of ALBEF's
image-text matching (Li et al., arXiv 2107.07651); the sizes and the gates below are ours. It is
trained by `tools/train_matcher.py`, on real images only.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from xmc_jax.networks.base import Text
from xmc_jax.types import Array, Tree
from xmc_jax.utils.arrays import unit
from xmc_jax.weight_files.own_weights import OwnWeights

SIDE = 64         # pixels per side
PLACES = 64       # of the last map, 8 x 8
GATE_BIAS = -2.0  # of the logits of a gate: most places are shut at first
GATE_SCALE = 4.0  # by which the sum over open places is divided


class ResidualBlock(nn.Module):
  """Map [b, h, w, c] -> [b, h, w, c]."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    y = nn.Conv(x.shape[-1], (3, 3), name='conv_in')(nn.silu(nn.GroupNorm(8, name='norm_in')(x)))
    y = nn.Conv(x.shape[-1], (3, 3), name='conv_out')(nn.silu(nn.GroupNorm(8, name='norm_out')(y)))
    return x + y


class ReadingLayer(nn.Module):
  """Words [b, k, t, d] of k captions of each image read its places [b, n, d].

  Half of the heads are attention. The others add up all places that a word opens, each place by
  itself: a mean over places cannot tell two apples from three, a sum can.
  """
  heads: int = 4

  @nn.compact
  def __call__(self, words: Array, places: Array) -> Array:
    d = words.shape[-1]
    split = lambda x: x.reshape(*x.shape[:-1], self.heads, d // self.heads)
    queries = split(nn.Dense(d, name='query')(nn.LayerNorm(name='norm_read')(words)))
    keys, values = (split(nn.Dense(d, name=name)(places)) for name in ('key', 'value'))
    logits = jnp.einsum('bkthf,bnhf->bkhtn', queries, keys) / jnp.sqrt(jnp.float32(d // self.heads))
    attention, gates = jnp.split(logits, 2, 2)
    shares = jnp.concatenate([jax.nn.softmax(attention, -1),
                              jax.nn.sigmoid(gates + GATE_BIAS) / GATE_SCALE], 2)
    read = jnp.einsum('bkhtn,bnhf->bkthf', shares, values).reshape(words.shape)
    words += nn.Dense(d, name='out')(read)
    y = nn.silu(nn.Dense(2 * d, name='mlp_in')(nn.LayerNorm(name='norm_mlp')(words)))
    return words + nn.Dense(d, name='mlp_out')(y)


class Matcher(nn.Module):
  """Images and captions to logits; above 0: the caption is more likely true than not.

  widths: channels at 1/2, 1/4 and 1/8 of the side. features: of words and places.
  """
  widths: tuple[int, int, int] = (32, 64, 144)
  features: int = 128
  layers: int = 2

  @nn.compact
  def __call__(self, images: Array, words: Array, mask: Array) -> Array:
    """Images [b, 64, 64, 3] in [0, 1] with k captions each -> float32 [b, k].

    words: [b, k, t, e], by the text encoder. mask: [b, k, t]; what is False has no influence. Each
    caption has at least one word.
    """
    small, middle, large = self.widths
    x = nn.Conv(small, (4, 4), (2, 2), name='conv_0')(2 * images - 1)
    x = nn.Conv(middle, (3, 3), (2, 2), name='conv_1')(nn.silu(x))
    x = ResidualBlock(name='block_1')(x)
    x = nn.Conv(large, (3, 3), (2, 2), name='conv_2')(nn.silu(x))
    for i in range(2):
      x = ResidualBlock(name=f'block_2_{i}')(x)
    places = nn.Dense(self.features, name='places')(nn.silu(x)).reshape(len(x), PLACES, -1)
    places += self.param('positions', nn.initializers.normal(0.02), (PLACES, self.features))

    h = nn.Dense(self.features, name='words')(jnp.sqrt(jnp.float32(words.shape[-1])) * unit(words))
    for i in range(self.layers):
      h = ReadingLayer(name=f'layer_{i}')(h, places)
    h = nn.silu(nn.Dense(self.features, name='hidden')(h))
    mean = jnp.where(mask[..., None], h, 0).sum(2) / mask.sum(2)[..., None]
    return nn.Dense(1, name='logit')(mean)[..., 0]


def logits_of(variables: Tree, images: Array, text: Text, wrong: int = 0) -> Array:
  """Logits [b, 1 + wrong] of images [b, s, s, 3] with their captions, and with those of others.

  The wrong captions of an image are those of the next images of the batch.
  """
  small = jax.image.resize(images, (len(images), SIDE, SIDE, 3), 'linear')
  several = lambda x: jnp.stack([jnp.roll(x, -i, 0) for i in range(1 + wrong)], 1)
  return Matcher().apply(variables, small, several(text.words), several(text.mask))


def weights(features: int) -> OwnWeights:
  """Reads and writes the weights of a network for words of so many features."""
  shape = jax.ShapeDtypeStruct
  return OwnWeights('matcher', (), Matcher, (
      shape((1, SIDE, SIDE, 3), jnp.float32), shape((1, 1, 1, features), jnp.float32),
      shape((1, 1, 1), jnp.bool_)))


def spec(features: int) -> Tree:
  """The shapes of the variables for words of so many features."""
  files = weights(features)
  return jax.eval_shape(files.module().init, jax.random.key(0), *files.inputs)


def load(path: str, features: int) -> Tree:
  """The variables in a file that `tools/train_matcher.py` has written, float32.

  Raises:
    UserError: the file is missing, damaged, or of another network or text encoder.
  """
  return weights(features).load(path)[1]
