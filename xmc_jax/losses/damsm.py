"""The losses of DAMSM: captions find their images, and images their captions.

Xu et al. 2018 (arXiv 1711.10485), section 3.2, as their released code computes it. That differs
from the words of XMC-GAN (`matching`) in three points: places first divide their attention among
the words, and then words among the places; nothing is scaled to length one before the attention;
the score is the logarithm of a sum that is not raised to 1 / gamma2, as the paper's has it.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp

from xmc_jax.losses.contrastive import cosines, diagonal_cross_entropy
from xmc_jax.losses.matching import everywhere, in_chunks
from xmc_jax.losses.positives import positive_pairs
from xmc_jax.types import Array
from xmc_jax.utils.arrays import unit

GAMMA1 = 4.0      # sharpness of a word's attention over places; SSA-GAN trains its generator with 5
GAMMA2 = 5.0      # sharpness of the soft maximum over words
GAMMA3 = 10.0     # scale of the scores, an inverse temperature
APART = -1e9      # the score of what shall not contrast; finite, so that no gradient is 0 * inf
# Numbers of the attention that are held at once; each of some five arrays of the gradient is as
# large. 48 captions of 18 words with 48 images of 289 places are 12 million: one go.
CELLS = 2**24


def word_scores(regions: Array, words: Array, mask: Array, *, gamma1: float = GAMMA1,
                gamma2: float = GAMMA2, cells: int = CELLS) -> Array:
  """Scores [b, b] of image i and caption j, not yet times gamma3; float32.

  Args: regions [b, n, e], words [b, t, e], mask [b, t] with at least one True a row.
  Where b * b * n * t is more than `cells`, captions go in chunks, recomputed in the backward pass.
  Over a mesh words travel and regions stay. What a Gram matrix of the regions would save of the
  contexts it costs again, since places are about as many as features.
  """
  b, n, e = regions.shape
  regions = regions.astype(jnp.float32)
  words, mask = everywhere(words.astype(jnp.float32)), everywhere(mask)

  def score(words, mask):
    """Scores [b, captions] of words [captions, t, e]; k below is (caption, word) in one axis."""
    pairs, each = (b, n, *mask.shape), words.reshape(-1, e)
    similarity = jnp.einsum('ine,ke->ink', regions, each, precision='highest').reshape(pairs)
    of_words = jax.nn.softmax(jnp.where(mask[None, None], similarity, -jnp.inf), -1)
    # Not divided by its sum over places, which cancels in the cosine; at most 1.
    attention = jnp.exp(gamma1 * (of_words - 1)).reshape(b, n, -1)
    context = jnp.einsum('ink,ine->ike', attention, regions, precision='highest')
    near = jnp.sum(unit(context) * unit(each)[None], -1).reshape(b, *mask.shape)
    return jax.nn.logsumexp(jnp.where(mask[None], gamma2 * near, -jnp.inf), -1)
  return in_chunks(score, words, mask, max(1, cells // (b * n * words.shape[1])))


def _apart(scores: Array, labels: Array | None, rule: str) -> Array:
  """`scores` where rows of like label, other than a row and itself, do not contrast."""
  if labels is None:
    return scores
  alike = positive_pairs(labels, rule).astype(bool) & ~jnp.eye(len(scores), dtype=bool)
  return jnp.where(alike, APART, scores)


def words(regions: Array, words: Array, mask: Array, labels: Array | None = None, *,
          rule: str = 'exact', gamma1: float = GAMMA1, gamma2: float = GAMMA2,
          gamma3: float = GAMMA3) -> Array:
  """Both directions of the words' loss, w0 + w1, a float32 scalar; arguments as `word_scores`.

  labels: [b] or [b, l], as `positive_pairs` takes them with the rule; None: all others contrast.
  """
  scores = gamma3 * word_scores(regions, words, mask, gamma1=gamma1, gamma2=gamma2)
  return diagonal_cross_entropy(_apart(scores, labels, rule))


def sentences(embeddings: Array, sentences: Array, labels: Array | None = None, *,
              rule: str = 'exact', gamma3: float = GAMMA3) -> Array:
  """Both directions of the sentences' loss, s0 + s1: images' codes [b, e], captions' [b, e]."""
  return diagonal_cross_entropy(_apart(gamma3 * cosines(embeddings, sentences), labels, rule))
