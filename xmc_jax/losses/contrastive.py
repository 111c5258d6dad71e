"""Contrastive losses over the examples of the global batch, in float32.

Under jit over a mesh the score matrix covers the examples of all devices, so the negatives of an
example are all others of the batch, whatever the number of devices. `groups.within` restricts them
to smaller groups.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp

from xmc_jax.types import Array, Float, Shaped
from xmc_jax.utils.arrays import unit


def cosines(a: Float[Array, 'm d'], b: Float[Array, 'k d']) -> Float[Array, 'm k']:
  """Cosine similarities of the rows of `a` and `b`.

  Multiplied in full float32: by default TPUs and GPUs round the factors to bfloat16 or TF32, and
  the temperature then amplifies the error.
  """
  return jnp.matmul(unit(a), unit(b).T, precision='highest')


@jax.named_call
def mean_cosine(a: Float[Array, 'b d'], b: Float[Array, 'b d']) -> Float[Array, '']:
  """Mean cosine similarity of row i of `a` and row i of `b`; there are no negatives."""
  return jnp.mean(jnp.sum(unit(a) * unit(b), -1))


def diagonal_cross_entropy(scores: Float[Array, 'b b']) -> Float[Array, '']:
  """Cross-entropy of the diagonal of `scores`, over its rows plus over its columns.

  The two directions are summed, not averaged, as in XMC-GAN (arXiv 2101.04702).
  """
  rows, columns = jax.nn.log_softmax(scores, 1), jax.nn.log_softmax(scores, 0)
  return -jnp.mean(jnp.diagonal(rows) + jnp.diagonal(columns))


@jax.named_call
def nt_xent(a: Float[Array, 'b d'], b: Float[Array, 'b d'], temperature: float = 0.1
            ) -> Float[Array, '']:
  """Normalized temperature-scaled cross-entropy; row i of `a` matches row i of `b`."""
  return diagonal_cross_entropy(cosines(a, b) / temperature)


def _cross_entropy(scores: Array, weights: Array) -> Array:
  """Cross-entropy of each row of `scores` [m, k] with `weights` [m, k], scaled to sum 1; the mean.

  A row whose weights are all 0 contributes 0 and still counts in the mean.
  """
  total = weights.sum(1)
  given = -jnp.sum(weights * jax.nn.log_softmax(scores, 1), 1)
  return jnp.mean(given / jnp.where(total > 0, total, 1))


@jax.named_call
def sup_con(z: Float[Array, 'm d'], positives: Shaped[Array, 'm m'], temperature: float
            ) -> Float[Array, '']:
  """Supervised contrastive loss of the rows of `z`, float32.

  positives: True where row j is a positive of row i, or weights >= 0 (see
    `positive_pairs`). The diagonal is ignored: a row is neither its own positive nor its own
    negative.

  The loss of a row is the mean over its positives of -log softmax over all other rows, and 0 if it
  has none. This is L_out of Khosla et al. 2020 (arXiv 2004.11362), averaged over rows instead of
  summed, and without the factor temperature / base temperature of their code. Weights other than 0
  and 1 are our extension.
  """
  self = jnp.eye(z.shape[0], dtype=bool)
  # A finite number, so that multiplying it by a weight of 0 gives 0; as a logit it acts like -inf.
  scores = jnp.where(self, jnp.finfo(jnp.float32).min, cosines(z, z) / temperature)
  return _cross_entropy(scores, jnp.where(self, 0, positives.astype(jnp.float32)))


@jax.named_call
def multi_positive_nce(a: Float[Array, 'm d'], b: Float[Array, 'm d'],
                       positives: Shaped[Array, 'm m'], temperature: float) -> Float[Array, '']:
  """InfoNCE between the rows of `a` and of `b` with several positives per row.

  positives: True where row j of `b` is a positive of row i of `a`, or weights >= 0. Row i
    of `b` always is one of row i of `a`, so without any other positives this is `nt_xent`.

  A float32 scalar: from a to b plus from b to a, the mean over rows of each. This is the image-text
  loss of UniCL (Yang et al. 2022, arXiv 2204.03610) with a fixed temperature instead of a learned
  one; weights are our extension.
  """
  return multi_positive(cosines(a, b) / temperature, positives)


@jax.named_call
def multi_positive(scores: Float[Array, 'm m'], positives: Shaped[Array, 'm m']
                   ) -> Float[Array, '']:
  """`multi_positive_nce` of given logits `scores`, whatever network they come from."""
  weights = jnp.maximum(positives.astype(jnp.float32), jnp.eye(len(scores)))
  return _cross_entropy(scores, weights) + _cross_entropy(scores.T, weights.T)


def retrieval_accuracy(a: Float[Array, 'b d'], b: Float[Array, 'b d']) -> Float[Array, '']:
  """Share of rows of `a` whose most similar row of `b` has the same index."""
  scores = cosines(a, b)
  return jnp.mean((jnp.argmax(scores, 1) == jnp.arange(scores.shape[0])).astype(jnp.float32))
