"""Swift's discriminator heads over a frozen network; see `swift.py`.

A head for each of several maps of a frozen SqueezeNet, as in Projected GAN (Sauer et al., arXiv
2111.01007). It sees the caption twice: before its last convolution, and as a projection in each
place (Miyato and Koyama, arXiv 1802.05637).
"""
from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.layers.conv import Dense, leaky
from xmc_jax.networks.base import DiscriminatorOutput, Text
from xmc_jax.networks.swift_layers import scaled_unit
from xmc_jax.types import Array

REGIONS = 2         # the map whose places meet words in the word term


def best_fit(h: Array, sequence: Array, mask: Array) -> Array:
  """How well each place of a map [b, h, w, c] fits a sequence [b, t, c], by its best element.

  Returns [b, h, w], the soft maximum of the products divided by sqrt(c): 0 where all products are,
  and the product itself for a sequence of one. mask: [b, t]; what is False has no influence.
  """
  products = jnp.einsum('bhwc,btc->bhwt', h, sequence) / jnp.sqrt(jnp.float32(h.shape[-1]))
  products += jnp.where(mask, 0, -jnp.inf)[:, None, None]
  return jax.nn.logsumexp(products, -1) - jnp.log(mask.sum(-1))[:, None, None]


class Heads(nn.Module):
  """Discriminator heads, one per map, and the embeddings of the contrastive losses.

  words: e of a word. read_words: whether a place is compared with every word of the caption, in
  place of the sentence. A plain network; the caller applies spectral normalization to its
  parameters.
  """
  words: int
  width: int
  features: int = 128
  read_words: bool = False

  @nn.compact
  def __call__(self, maps: Sequence[Array], *texts: Text) -> tuple[DiscriminatorOutput, ...]:
    """A `DiscriminatorOutput` of maps [b, h, w, c] with each of the texts.

    Logits are [b, places] a map. What does not depend on the text is computed once.
    """
    inputs = [Dense(self.width, name=f'in_{i}')(m) for i, m in enumerate(maps)]
    # The largest map is halved, which leaves places of about the size of the second's.
    convs = [nn.Conv(self.width, (3, 3), (1 + (i == 0),) * 2, name=f'mid_{i}')
             for i in range(len(maps))]
    layer = lambda features, name: [Dense(features, name=f'{name}_{i}') for i in range(len(maps))]
    shifts, projections = layer(self.width, 'caption'), layer(self.width, 'projection')
    logits = layer(1, 'logit')
    features = Dense(self.features, name='features')(
        jnp.concatenate([leaky(h).mean((1, 2)) for h in inputs], -1))
    regions = Dense(self.words, name='regions')(leaky(inputs[REGIONS]))
    regions = regions.reshape(len(features), -1, self.words)
    caption = Dense(self.features, name='sentence')

    def view(text):
      sentence, found = scaled_unit(text.sentence), []
      sequence, mask = sentence[:, None], jnp.ones((len(sentence), 1), bool)
      if self.read_words:      # a place then fits by one word, not by a bit of each
        sequence, mask = scaled_unit(text.words), text.mask
      for h, shift, conv, project, logit in zip(inputs, shifts, convs, projections, logits):
        h = leaky(conv(leaky(h + shift(sentence)[:, None, None])))
        fit = best_fit(h, project(sequence), mask)
        found.append((logit(h)[..., 0] + fit).reshape(len(h), -1))
      return DiscriminatorOutput(tuple(found), features, regions, caption(sentence))
    return tuple(view(text) for text in texts)
