"""Contrastive losses over the rows of the global batch, in float32.

Rows are global: under jit over a mesh the score matrix covers the rows of every device, so the
negatives of a row are all other rows of the batch whatever the number of devices. For smaller
groups of rows see `groups.within`.
"""
import jax
import jax.numpy as jnp

from xmc_jax.types import Array
from xmc_jax.utils.arrays import unit


def cosines(a: Array, b: Array) -> Array:
  """Cosines [m, k] of the rows of `a` [m, d] and `b` [k, d].

  In full float32: TPUs and GPUs would by default round the factors to bfloat16 or TF32, an error
  that the temperature then multiplies.
  """
  return jnp.matmul(unit(a), unit(b).T, precision='highest')


def mean_cosine(a: Array, b: Array) -> Array:
  """The mean cosine of row i of `a` [b, d] with row i of `b` [b, d]; it looks at no other rows."""
  return jnp.mean(jnp.sum(unit(a) * unit(b), -1))


def diagonal_cross_entropy(scores: Array) -> Array:
  """Cross-entropy of the diagonal of `scores` [b, b] over its rows plus over its columns.

  A sum of the two directions, not their mean, as in XMC-GAN (arXiv 2101.04702).
  """
  rows, columns = jax.nn.log_softmax(scores, 1), jax.nn.log_softmax(scores, 0)
  return -jnp.mean(jnp.diagonal(rows) + jnp.diagonal(columns))


def nt_xent(a: Array, b: Array, temperature: float = 0.1) -> Array:
  """Normalised-temperature cross-entropy of row i of `a` [b, d] with row i of `b` [b, d]."""
  return diagonal_cross_entropy(cosines(a, b) / temperature)


def _cross_entropy(scores: Array, weights: Array) -> Array:
  """Mean over rows of the cross-entropy of `scores` [m, k] with `weights` [m, k], scaled to sum 1.

  A row without weight contributes 0 and counts in the mean.
  """
  total = weights.sum(1)
  given = -jnp.sum(weights * jax.nn.log_softmax(scores, 1), 1)
  return jnp.mean(given / jnp.where(total > 0, total, 1))


def sup_con(z: Array, positives: Array, temperature: float) -> Array:
  """Supervised contrast of the rows of `z` [m, d] with one another, a float32 scalar.

  positives: [m, m], True where row j belongs to row i; or weights >= 0 (see `positive_pairs`). The
  diagonal is not looked at: a row is neither its own positive nor its own negative. A row's loss is
  the mean over its positives of -log softmax over all other rows; 0 for a row without any.
  L_out of Khosla et al. 2020 (arXiv 2004.11362), averaged over rows instead of summed, and without
  the factor temperature / base temperature of their code. Weights other than 0 and 1 are ours.
  """
  self = jnp.eye(z.shape[0], dtype=bool)
  # Finite, so that a weight of 0 takes it away; as a logit it is as good as -inf.
  scores = jnp.where(self, jnp.finfo(jnp.float32).min, cosines(z, z) / temperature)
  return _cross_entropy(scores, jnp.where(self, 0, positives.astype(jnp.float32)))


def multi_positive_nce(a: Array, b: Array, positives: Array, temperature: float) -> Array:
  """Contrast of the rows of `a` [m, d] with those of `b` [m, d], a float32 scalar.

  positives: [m, m], True where row j of `b` belongs to row i of `a`; or weights >= 0. Row i of `b`
  always belongs to row i of `a`, so that without any further positives this is `nt_xent`.
  The image-text form of UniCL (Yang et al. 2022, arXiv 2204.03610), from a to b plus from b to a;
  the mean over rows of each, a given temperature in place of a learnt one, and weights are ours.
  """
  return multi_positive(cosines(a, b) / temperature, positives)


def multi_positive(scores: Array, positives: Array) -> Array:
  """The same of given `scores` [m, m], whatever network they come from."""
  weights = jnp.maximum(positives.astype(jnp.float32), jnp.eye(len(scores)))
  return _cross_entropy(scores, weights) + _cross_entropy(scores.T, weights.T)


def retrieval_accuracy(a: Array, b: Array) -> Array:
  """Share of rows of `a` [b, d] whose most similar row of `b` [b, d] is their own."""
  scores = cosines(a, b)
  return jnp.mean((jnp.argmax(scores, 1) == jnp.arange(scores.shape[0])).astype(jnp.float32))
