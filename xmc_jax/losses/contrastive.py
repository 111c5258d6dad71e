"""Contrastive losses over the rows of the global batch, in float32.

Rows are global: under jit over a mesh the score matrix covers the rows of every device, so the
negatives of a row are all other rows of the batch whatever the number of devices.
"""
import jax
import jax.numpy as jnp

from xmc_jax.arrays import unit
from xmc_jax.types import Array


def diagonal_cross_entropy(scores: Array) -> Array:
  """Cross-entropy of the diagonal of `scores` [b, b] over its rows plus over its columns.

  A sum of the two directions, not their mean, as in XMC-GAN (arXiv 2101.04702).
  """
  rows, columns = jax.nn.log_softmax(scores, 1), jax.nn.log_softmax(scores, 0)
  return -jnp.mean(jnp.diagonal(rows) + jnp.diagonal(columns))


def nt_xent(a: Array, b: Array, temperature: float = 0.1) -> Array:
  """Normalised-temperature cross-entropy of row i of `a` [b, d] with row i of `b` [b, d]."""
  return diagonal_cross_entropy(unit(a) @ unit(b).T / temperature)


def retrieval_accuracy(a: Array, b: Array) -> Array:
  """Share of rows of `a` [b, d] whose most similar row of `b` [b, d] is their own."""
  scores = unit(a) @ unit(b).T
  return jnp.mean((jnp.argmax(scores, 1) == jnp.arange(scores.shape[0])).astype(jnp.float32))
