"""Attention of regions over words."""
import jax
import jax.numpy as jnp

from xmc_jax.types import Array
from xmc_jax.utils.arrays import unit


def word_context(regions: Array, words: Array, mask: Array, *, gain: float = 15.0) -> Array:
  """For every region the attention-weighted mean of the caption's words of length one, float32.

  Args: regions [b, n, e], words [b, t, e], mask [b, t] (False: padding, no influence).
  Weights are a softmax over words of `gain` times the cosine of region and word. Returns [b, n, e].
  """
  words = unit(words)
  cosines = jnp.einsum('bne,bte->bnt', unit(regions), words)
  logits = jnp.where(mask[:, None], gain * cosines, jnp.finfo(jnp.float32).min)
  return jnp.einsum('bnt,bte->bne', jax.nn.softmax(logits, -1), words)


def attend(queries: Array, keys: Array, values: Array, mask: Array) -> Array:
  """For every query the mean of the values, weighted by a softmax of query times key; float32.

  Args: queries [b, n, e], keys [b, t, e], values [b, t, d]; mask [b, t], or [b, n, t] for a mask of
  each query (False: no influence). The products are not scaled. Returns [b, n, d].
  """
  wide = lambda x: x.astype(jnp.float32)
  scores = jnp.einsum('bne,bte->bnt', wide(queries), wide(keys))
  mask = mask if mask.ndim == 3 else mask[:, None]
  weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(jnp.float32).min), -1)
  return jnp.einsum('bnt,btd->bnd', weights, wide(values))


def tiled_mask(mask: Array, queries: int) -> Array:
  """The masks [b, n, t] that AttnGAN's released code gives to n queries, by mistake.

  It repeats the masks [b, t] of the batch n times one after another, and its scores row by row:
  query q of row i gets the mask of row (i * n + q) mod b. Weights trained with it know no other.
  """
  b = mask.shape[0]
  owners = (jnp.arange(b)[:, None] * queries + jnp.arange(queries)[None]) % b
  return mask[owners]
