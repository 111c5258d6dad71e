"""Word-region matching of XMC-GAN: how well the words of a caption match the regions of an image.

With unit vectors of words w_t and regions r_n (arXiv 2101.04702, equations 4 to 6):

  attention  a_tn = softmax over n of ATTENTION_GAIN * cos(w_t, r_n)
  context    c_t  = sum over n of a_tn r_n
  score           = SCORE_GAIN / WORD_GAIN * log sum over t of exp(WORD_GAIN * cos(w_t, c_t))

`word_scores_reference` is written like this; `word_scores` is the same function with less memory.
"""
from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from xmc_jax.losses.contrastive import diagonal_cross_entropy
from xmc_jax.types import Array, Bool, Float
from xmc_jax.utils.arrays import unit

ATTENTION_GAIN = 5.0    # sharpness of a word's attention over regions, rho_1 of the paper
WORD_GAIN = 5.0         # sharpness of the soft maximum over words, rho_2
SCORE_GAIN = 50.0       # scale of the scores, an inverse temperature, rho_3

# Captions that are scored at once. Temporaries of the loss with its gradients, compiled for a CPU
# for 256 examples, 256 regions, 17 words and 768 features, in MB on one device (on each of eight):
#   8: 694 (93)   16: 775 (109)   32: 1134 (155)   64: 1851 (246)   all 256: 6000 (762)
# At 16 most of it is the regions and their gradient; fewer would only make the products narrower.
CHUNK = 16


def _log_sum_words(cosines: Array, mask: Array) -> Array:
  """Scores from `cosines` [..., t] of words with their contexts; masked words have no influence."""
  logits = jnp.where(mask, WORD_GAIN * cosines, -jnp.inf)
  return SCORE_GAIN / WORD_GAIN * jax.nn.logsumexp(logits, -1)


def word_scores_reference(regions: Float[Array, 'b n e'], words: Float[Array, 'c t e'],
                          mask: Bool[Array, 'c t']) -> Float[Array, 'b c']:
  """Scores of image i with caption j, written as in the paper; memory b * c * t * e.

  Each row of the mask has at least one True.
  """
  regions, words = unit(regions), unit(words)
  similarity = jnp.einsum('ine,jte->ijtn', regions, words)
  attention = jax.nn.softmax(ATTENTION_GAIN * similarity, -1)
  context = jnp.einsum('ijtn,ine->ijte', attention, regions)
  cosines = jnp.einsum('ijte,jte->ijt', unit(context), words)
  return _log_sum_words(cosines, mask[None])


def word_scores(regions: Float[Array, 'b n e'], words: Float[Array, 'c t e'],
                mask: Bool[Array, 'c t'], *, chunk: int = CHUNK) -> Float[Array, 'b c']:
  """The same scores as `word_scores_reference`, without the context vectors.

  The cosine only needs the attention-weighted similarities (its numerator) and the squared norm of
  the context, alpha^T (R R^T) alpha, from the Gram matrix of the image's regions. More than `chunk`
  captions are scored in chunks, which the backward pass recomputes: memory b * n * chunk * t. Over
  a mesh the words are gathered and the regions stay: each device scores its images with all
  captions.
  """
  words, mask = replicate(words), replicate(mask)      # gathered once, not once per chunk
  regions, words = unit(regions), unit(words)
  gram = jnp.einsum('ine,ime->inm', regions, regions)
  b, t = len(regions), words.shape[1]

  def score(words, mask):
    """Scores [b, captions] of words [captions, t, e]; below, k indexes (caption, word)."""
    similarity = jnp.einsum('ine,ke->ink', regions, words.reshape(-1, words.shape[-1]))
    # Unnormalized attention, at most 1 since cosines are; its sum cancels in the cosine.
    attention = jnp.exp(ATTENTION_GAIN * (similarity - 1))
    product = jnp.sum(attention * similarity, 1)
    squared = jnp.sum(jnp.einsum('inm,imk->ink', gram, attention) * attention, 1)
    cosines = product * jax.lax.rsqrt(squared + 1e-12)
    return _log_sum_words(cosines.reshape(b, -1, t), mask[None])
  return in_chunks(score, words, mask, chunk)


SCORES = {'reference': word_scores_reference, 'gram': word_scores}      # by `Impl.words`


@jax.named_call
def word_loss(regions: Float[Array, 'b n e'], words: Float[Array, 'b t e'],
              mask: Bool[Array, 'b t'], scores=word_scores) -> Float[Array, '']:
  """Contrast of the regions of images with the words of captions by one of `SCORES`, float32."""
  return diagonal_cross_entropy(scores(regions, words, mask))


@jax.named_call
def true_caption_loss(logits: Float[Array, 'b k']) -> Float[Array, '']:
  """Of the logits of images with k captions, of which the first is true.

  The cross-entropy of the first among the k (a choice), plus the logistic losses of true and of
  wrong pairs, as in ALBEF's matching (Li et al., arXiv 2107.07651).
  """
  choice = -jax.nn.log_softmax(logits, -1)[:, 0]
  pairs = jax.nn.softplus(-logits[:, 0]) + jax.nn.softplus(logits[:, 1:]).mean(1)
  return (choice + pairs).mean()


def replicate(x: Array) -> Array:
  """`x`, gathered on every device of the mesh that it is sharded over; `x` itself without a mesh.

  For sharded arrays under jit.
  """
  mesh = jax.typeof(x).sharding.mesh
  if jax.sharding.AxisType.Auto not in mesh.axis_types:      # no mesh, or inside a shard_map
    return x
  return jax.lax.with_sharding_constraint(x, jax.NamedSharding(mesh, jax.P()))


def in_chunks(score: Callable[[Array, Array], Array], words: Array, mask: Array,
              chunk: int) -> Array:
  """`score(words, mask)` [b, captions] of words [b, t, e] and mask [b, t], a few captions at a
  time.

  At most `chunk`, and a number that divides b. The backward pass recomputes each chunk.
  """
  b = len(words)
  if b <= chunk:
    return score(words, mask)
  if b % chunk:
    chunk = next(c for c in range(chunk, 0, -1) if b % c == 0)
  chunks = [x.reshape(b // chunk, chunk, *x.shape[1:]) for x in (words, mask)]
  scores = jax.lax.map(lambda c: jax.checkpoint(score)(*c), tuple(chunks))    # [chunks, b, chunk]
  return jnp.swapaxes(scores, 0, 1).reshape(b, b)
