"""Attention of regions over words."""
import jax
import jax.numpy as jnp

from xmc_jax.arrays import unit
from xmc_jax.types import Array


def word_context(regions: Array, words: Array, mask: Array, *, gain: float = 15.0) -> Array:
  """For every region the attention-weighted mean of the caption's words of length one, float32.

  Args: regions [b, n, e], words [b, t, e], mask [b, t] (False: padding, no influence).
  Weights are a softmax over words of `gain` times the cosine of region and word. Returns [b, n, e].
  """
  words = unit(words)
  cosines = jnp.einsum('bne,bte->bnt', unit(regions), words)
  logits = jnp.where(mask[:, None], gain * cosines, jnp.finfo(jnp.float32).min)
  return jnp.einsum('bnt,bte->bne', jax.nn.softmax(logits, -1), words)
