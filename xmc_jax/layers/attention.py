"""Attention of image regions over words."""
import jax
import jax.numpy as jnp

from xmc_jax.types import Array
from xmc_jax.utils.arrays import unit


def word_context(regions: Array, words: Array, mask: Array, *, gain: float = 15.0) -> Array:
  """Attention-weighted mean of the normalized words for every region, [b, n, e] float32.

  regions: [b, n, e]. words: [b, t, e]. mask: [b, t], False for padding, which has no influence.
  The weights are a softmax over words of `gain` times the cosine of region and word.
  """
  words = unit(words)
  cosines = jnp.einsum('bne,bte->bnt', unit(regions), words)
  logits = jnp.where(mask[:, None], gain * cosines, jnp.finfo(jnp.float32).min)
  return jnp.einsum('bnt,bte->bne', jax.nn.softmax(logits, -1), words)


def attend(queries: Array, keys: Array, values: Array, mask: Array) -> Array:
  """Dot-product attention without scaling, [b, n, d] float32.

  queries: [b, n, e]. keys: [b, t, e]. values: [b, t, d]. mask: [b, t], or [b, n, t] for one mask
  per query; False means no influence.
  """
  wide = lambda x: x.astype(jnp.float32)
  scores = jnp.einsum('bne,bte->bnt', wide(queries), wide(keys))
  mask = mask if mask.ndim == 3 else mask[:, None]
  weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(jnp.float32).min), -1)
  return jnp.einsum('bnt,btd->bnd', weights, wide(values))


def tiled_mask(mask: Array, queries: int) -> Array:
  """The masks [b, n, t] of n queries in AttnGAN's released code, which is mistaken there.

  It repeats the whole batch of masks [b, t] n times, but the scores example by example: query q of
  example i gets the mask of example (i * n + q) mod b. Weights trained with it depend on that.
  """
  b = mask.shape[0]
  owners = (jnp.arange(b)[:, None] * queries + jnp.arange(queries)[None]) % b
  return mask[owners]
