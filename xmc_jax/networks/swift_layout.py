"""What stands where: a network that draws the layout of a caption, object after object.

A layout is a row [kind, y, x, side] for each object, as `data/layouts.py` makes them. The network
is trained on those of training images, and the generator draws objects where they are; for a
caption alone, the layout is drawn first. To draw the boxes before the image is the way of Hong et
al. (arXiv 1801.05091) and Obj-GAN (Li et al., arXiv 1902.10740), which do it with recurrent
networks; this is a small transformer. All noise enters as uniform numbers, so that a layout is a
function of the caption and the noise, like an image.
"""
from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from xmc_jax.layers.conv import Dense
from xmc_jax.networks.base import Text
from xmc_jax.networks.swift_layers import scaled_unit
from xmc_jax.types import Array

BINS = 16                   # of each place and side
SIDES = (0.03, 1.0)         # smallest and largest side of an object, of the image's; in steps of
                            # equal ratios between them
NUMBERS = 4                 # of a row: the noise that draws it has as many
KIND_POWER = 2.0            # probabilities of kinds are raised to it when a layout is drawn


def bins(objects: Array) -> tuple[Array, ...]:
  """Kinds and the bins of y, x and side, int32 [..., k] each, of layouts [..., k, 4]."""
  kind, y, x, side = jnp.moveaxis(objects, -1, 0)
  low, high = jnp.log(jnp.asarray(SIDES))
  share = (jnp.log(jnp.maximum(side, SIDES[0])) - low) / (high - low)
  binned = (jnp.clip(jnp.floor(s * BINS), 0, BINS - 1) for s in (y, x, share))
  return tuple(s.astype(jnp.int32) for s in (kind, *binned))


def drawn_place(logits: Array, uniform: Array) -> tuple[Array, Array]:
  """A bin, int32 [b], and a number in [0, 1), [b]: the inverse of the distribution function.

  logits: [b, n] of n bins of equal width. Within a bin all numbers are equally likely.
  """
  widths = jax.nn.softmax(logits, -1)
  edges = jnp.cumsum(widths, axis=-1)
  found = jnp.minimum((uniform[:, None] >= edges).sum(-1), logits.shape[-1] - 1)
  chosen = jax.nn.one_hot(found, logits.shape[-1])
  upper, width = (edges * chosen).sum(-1), (widths * chosen).sum(-1)
  within = jnp.clip(1 - (upper - uniform) / jnp.maximum(width, 1e-6), 0, 1)
  return found, (found + within) / logits.shape[-1]


class _ReadingBlock(nn.Module):
  """A transformer's block: each object reads those before it, then the words; [b, k, d]."""
  width: int

  @nn.compact
  def __call__(self, x: Array, words: Array, mask: Array) -> Array:
    attention = lambda name: nn.MultiHeadDotProductAttention(4, name=name)
    before = np.tril(np.ones((1, 1, x.shape[1], x.shape[1]), bool))
    y = scaled_unit(x)
    x += attention('objects')(y, y, mask=before)
    x += attention('words')(scaled_unit(x), words, mask=mask[:, None, None])
    y = nn.silu(Dense(2 * self.width, name='in')(scaled_unit(x)))
    return x + Dense(self.width, name='out')(y)


class LayoutNetwork(nn.Module):
  """The distribution of layouts [b, k, 4] given captions, of at most `objects` = k objects.

  Kinds are numbered from 1; 0 stands for the end. Of an object, the kind comes first, then y, x and
  the side, each knowing those before it.

  Once an object's kind is known, the words are read again: the words that say where it is are those
  of its kind.
  """
  kinds: int
  objects: int
  width: int = 128
  blocks: int = 2

  def setup(self):
    embed = lambda n: nn.Embed(n, self.width)
    self.kind_embed, self.places = embed(self.kinds + 1), [embed(BINS) for _ in range(3)]
    self.numbers = embed(self.objects)
    self.words = Dense(self.width)
    self.read = [_ReadingBlock(self.width) for _ in range(self.blocks)]
    self.read_for_kind = _ReadingBlock(self.width)
    self.kind = Dense(self.kinds + 1)
    self.hidden = [Dense(self.width) for _ in range(3)]
    self.place = [Dense(BINS) for _ in range(3)]

  def states(self, text: Text, objects: Array) -> tuple[Array, Array]:
    """What is known before each object, and when its kind is known too; [b, k, width] each."""
    kind, *places = bins(objects)
    x = self.kind_embed(kind) + sum(embed(p) for embed, p in zip(self.places, places))
    x = jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0))) + self.numbers(jnp.arange(self.objects))
    words = self.words(scaled_unit(text.words))
    for block in self.read:
      x = block(x, words, text.mask)
    place = self.read_for_kind(x + self.kind_embed(kind), words, text.mask)
    return scaled_unit(x), scaled_unit(place)

  def place_logits(self, i: int, state: Array) -> Array:
    """Logits [..., BINS] of y, x or the side, by their number i."""
    return self.place[i](nn.silu(self.hidden[i](state)))

  def __call__(self, text: Text, objects: Array) -> Array:
    """The negative log likelihood [b] of layouts [b, k, 4], in nats."""
    kind, *places = bins(objects)
    states, state = self.states(text, objects)
    nll = lambda logits, chosen: -jnp.take_along_axis(
        jax.nn.log_softmax(logits, -1), chosen[..., None], -1)[..., 0]
    present = kind > 0
    asked = jnp.pad(present[:, :-1], ((0, 0), (1, 0)), constant_values=True)      # the end, once
    total = (nll(self.kind(states), kind) * asked).sum(-1)
    for i, place in enumerate(places):
      total += (nll(self.place_logits(i, state), place) * present).sum(-1)
      state += self.places[i](place)
    return total

  def sample(self, text: Text, uniform: Array) -> Array:
    """Layouts [b, k, 4] of captions. uniform: [b, k, 4], in (0, 1)."""
    b = len(uniform)
    objects, going = jnp.zeros((b, self.objects, NUMBERS)), jnp.ones(b, bool)
    low, high = jnp.log(jnp.asarray(SIDES))
    for k in range(self.objects):
      kind, _ = drawn_place(KIND_POWER * self.kind(self.states(text, objects)[0][:, k]),
                            uniform[:, k, 0])
      going &= kind > 0
      row = [kind.astype(jnp.float32)]
      state = self.states(text, objects.at[:, k, 0].set(row[0]))[1][:, k]
      for i in range(3):
        place, share = drawn_place(self.place_logits(i, state), uniform[:, k, i + 1])
        state += self.places[i](place)
        row.append(share)
      row[3] = jnp.exp(low + row[3] * (high - low))
      objects = objects.at[:, k].set(jnp.where(going[:, None], jnp.stack(row, -1), 0))
    return objects
