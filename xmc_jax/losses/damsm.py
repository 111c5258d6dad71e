"""The losses of DAMSM: captions retrieve their images, and images their captions.

Xu et al. 2018 (arXiv 1711.10485), section 3.2, as their released code computes them. They differ
from the word loss of XMC-GAN (`matching.py`) in three ways. The attention is normalized over words
first and over regions second; vectors are not normalized before the attention; and the score is the
logarithm of a sum that is not raised to 1 / gamma2 as in the paper.
"""
from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from xmc_jax.losses.contrastive import cosines, diagonal_cross_entropy
from xmc_jax.losses.matching import in_chunks, replicate
from xmc_jax.losses.positives import positive_pairs
from xmc_jax.types import Array, Bool, Float, Shaped
from xmc_jax.utils.arrays import unit

GAMMA1 = 4.0      # sharpness of a word's attention over regions; 5 where SSA-GAN trains a generator
GAMMA2 = 5.0      # sharpness of the soft maximum over words
GAMMA3 = 10.0     # scale of the scores, an inverse temperature
MASKED = -1e9     # score of a pair that is no negative; finite, so that no gradient is 0 * inf
# Elements of the attention held at once; some five arrays of that size are needed for the gradient.
# 48 captions of 18 words with 48 images of 289 regions have 12 million, so they need no chunks.
CELLS = 2**24


def word_scores(regions: Float[Array, 'b n e'], words: Float[Array, 'b t e'],
                mask: Bool[Array, 'b t'], *, gamma1: float = GAMMA1, gamma2: float = GAMMA2,
                cells: int = CELLS) -> Float[Array, 'b b']:
  """Scores of image i with caption j, before the factor gamma3; float32.

  Each row of the mask has at least one True. If b * b * n * t exceeds `cells`, captions are scored
  in chunks, which the backward pass recomputes. Over a mesh the words are gathered and the regions
  stay on their devices. Unlike in `matching.word_scores` a Gram matrix of the regions would save
  nothing, since there are about as many regions as features.
  """
  b, n, e = regions.shape
  regions = regions.astype(jnp.float32)
  words, mask = replicate(words.astype(jnp.float32)), replicate(mask)

  def score(words, mask):
    """Scores [b, captions] of words [captions, t, e]; below, k indexes (caption, word)."""
    pairs, flat = (b, n, *mask.shape), words.reshape(-1, e)
    similarity = jnp.einsum('ine,ke->ink', regions, flat, precision='highest').reshape(pairs)
    over_words = jax.nn.softmax(jnp.where(mask[None, None], similarity, -jnp.inf), -1)
    # At most 1, and 1 where it is largest. The sum over regions is left out, since it cancels in
    # the cosine.
    largest = jax.lax.stop_gradient(over_words.max(1, keepdims=True))
    attention = jnp.exp(gamma1 * (over_words - largest)).reshape(b, n, -1)
    context = jnp.einsum('ink,ine->ike', attention, regions, precision='highest')
    cosine = jnp.sum(unit(context) * unit(flat)[None], -1).reshape(b, *mask.shape)
    return jax.nn.logsumexp(jnp.where(mask[None], gamma2 * cosine, -jnp.inf), -1)
  return in_chunks(score, words, mask, max(1, cells // (b * n * words.shape[1])))


def _without_same_label(scores: Array, labels: Array | None, rule: str) -> Array:
  """`scores` with the pairs masked that have the same label by `rule`, except the diagonal."""
  if labels is None:
    return scores
  same = positive_pairs(labels, rule).astype(bool) & ~jnp.eye(len(scores), dtype=bool)
  return jnp.where(same, MASKED, scores)


@functools.partial(jax.named_call, name='damsm_words')
def words(regions: Float[Array, 'b n e'], words: Float[Array, 'b t e'], mask: Bool[Array, 'b t'],
          labels: Shaped[Array, 'b *l'] | None = None, *, rule: str = 'exact',
          gamma1: float = GAMMA1, gamma2: float = GAMMA2, gamma3: float = GAMMA3
          ) -> Float[Array, '']:
  """The word loss in both directions, w0 + w1, float32.

  labels: as `positive_pairs` takes them with the rule: examples with the same label
    are no negatives of each other. None: all examples are.
  """
  scores = gamma3 * word_scores(regions, words, mask, gamma1=gamma1, gamma2=gamma2)
  return diagonal_cross_entropy(_without_same_label(scores, labels, rule))


@functools.partial(jax.named_call, name='damsm_sentences')
def sentences(images: Float[Array, 'b e'], sentences: Float[Array, 'b e'],
              labels: Shaped[Array, 'b *l'] | None = None, *, rule: str = 'exact',
              gamma3: float = GAMMA3) -> Float[Array, '']:
  """The sentence loss in both directions, s0 + s1, of embeddings; labels as in `words`."""
  scores = gamma3 * cosines(images, sentences)
  return diagonal_cross_entropy(_without_same_label(scores, labels, rule))
