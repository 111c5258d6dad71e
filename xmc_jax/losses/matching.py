"""Word-region matching: how well the words of a caption are found in the regions of an image."""
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from xmc_jax.losses.contrastive import diagonal_cross_entropy
from xmc_jax.types import Array
from xmc_jax.utils.arrays import unit

ATTENTION_GAIN = 5.0    # sharpness of a word's attention over regions (rho_1 of the paper)
WORD_GAIN = 5.0         # sharpness of the soft maximum over words (rho_2)
SCORE_GAIN = 50.0       # scale of the scores, an inverse temperature (rho_3)

# Captions that are scored at once. Temporaries of the loss with gradients, compiled for a CPU for
# 256 rows, 256 regions, 17 words and 768 features, in MB on one device (on each of eight):
#   8: 694 (93)   16: 775 (109)   32: 1134 (155)   64: 1851 (246)   all 256: 6000 (762)
# At 16 most of it are the regions and their gradient; fewer would only make the products narrower.
CHUNK = 16


def _log_sum_words(cosines: Array, mask: Array) -> Array:
  """Scores from `cosines` [..., t] of words with their contexts; masked words have no influence."""
  logits = jnp.where(mask, WORD_GAIN * cosines, -jnp.inf)
  return SCORE_GAIN / WORD_GAIN * jax.nn.logsumexp(logits, -1)


def word_scores_plain(regions: Array, words: Array, mask: Array) -> Array:
  """Scores [b, b] of image i and caption j, written as the paper does.

  Args: regions [b, n, e], words [b, t, e], mask [b, t] with at least one True a row.
  Each word attends over the regions of an image; the score is a soft maximum over the words of
  the cosine of a word with its attended context. Memory b * b * t * e.
  """
  regions, words = unit(regions), unit(words)
  similarity = jnp.einsum('ine,jte->ijtn', regions, words)
  attention = jax.nn.softmax(ATTENTION_GAIN * similarity, -1)
  context = jnp.einsum('ijtn,ine->ijte', attention, regions)
  cosines = jnp.einsum('ijte,jte->ijt', unit(context), words)
  return _log_sum_words(cosines, mask[None])


def everywhere(x: Array) -> Array:
  """`x` whole on every device of the mesh that it is split over; untouched where there is none.

  For sharded arrays that are used under jit.
  """
  mesh = jax.typeof(x).sharding.mesh
  if jax.sharding.AxisType.Auto not in mesh.axis_types:      # no mesh, or inside a shard_map
    return x
  return jax.lax.with_sharding_constraint(x, jax.NamedSharding(mesh, jax.P()))


def in_chunks(score: Callable[[Array, Array], Array], words: Array, mask: Array,
              chunk: int) -> Array:
  """`score(words, mask)` [b, captions] of words [b, t, e] and mask [b, t], some captions at a time.

  At most `chunk`, a number that divides b; recomputed in the backward pass.
  """
  b = len(words)
  if b <= chunk:
    return score(words, mask)
  if b % chunk:
    chunk = next(c for c in range(chunk, 0, -1) if b % c == 0)
  chunks = [x.reshape(b // chunk, chunk, *x.shape[1:]) for x in (words, mask)]
  scores = jax.lax.map(lambda c: jax.checkpoint(score)(*c), tuple(chunks))    # [chunks, b, chunk]
  return jnp.swapaxes(scores, 0, 1).reshape(b, b)


def word_scores(regions: Array, words: Array, mask: Array, *, chunk: int = CHUNK) -> Array:
  """The same scores as `word_scores_plain`, without a context vector.

  The cosine needs only attention-weighted similarities (numerator) and the squared length of the
  context, alpha^T (R R^T) alpha, from the Gram matrix of the image's regions. More than `chunk`
  captions go in chunks, recomputed in the backward pass: memory b * n * chunk * t.
  Over a mesh words travel and regions stay: each device scores its own images with all captions.
  """
  words, mask = everywhere(words), everywhere(mask)   # once, not once a chunk
  regions, words = unit(regions), unit(words)
  gram = jnp.einsum('ine,ime->inm', regions, regions)
  b, t, _ = words.shape

  def score(words, mask):
    """Scores [b, captions] of words [captions, t, e]; k below is (caption, word) in one axis."""
    similarity = jnp.einsum('ine,ke->ink', regions, words.reshape(-1, words.shape[-1]))
    # Unnormalised attention, at most 1 since cosines are: its sum cancels in the cosine.
    attention = jnp.exp(ATTENTION_GAIN * (similarity - 1))
    along = jnp.sum(attention * similarity, 1)
    squared = jnp.sum(jnp.einsum('inm,imk->ink', gram, attention) * attention, 1)
    cosines = along * jax.lax.rsqrt(squared + 1e-12)
    return _log_sum_words(cosines.reshape(b, -1, t), mask[None])
  return in_chunks(score, words, mask, chunk)


SCORES = {'plain': word_scores_plain, 'gram': word_scores}      # the impl, by name


def word_loss(regions: Array, words: Array, mask: Array, scores=word_scores) -> Array:
  """Contrast of images' regions [b, n, e] with captions' words [b, t, e], a float32 scalar."""
  return diagonal_cross_entropy(scores(regions, words, mask))


word_loss_plain = functools.partial(word_loss, scores=word_scores_plain)
