"""Attention of image regions over words."""
from __future__ import annotations

import jax
import jax.numpy as jnp

from xmc_jax.types import Array, Bool, Float
from xmc_jax.utils.arrays import unit


def word_context(regions: Float[Array, 'b n e'], words: Float[Array, 'b t e'],
                 mask: Bool[Array, 'b t'], *, gain: float = 15.0) -> Float[Array, 'b n e']:
  """Attention-weighted mean of the normalized words for every region, float32.

  The weights are a softmax over words of `gain` times the cosine of region and word. Words whose
  mask is False are padding and have no influence.
  """
  words = unit(words)
  cosines = jnp.einsum('bne,bte->bnt', unit(regions), words)
  logits = jnp.where(mask[:, None], gain * cosines, jnp.finfo(jnp.float32).min)
  return jnp.einsum('bnt,bte->bne', jax.nn.softmax(logits, -1), words)


def attend(queries: Float[Array, 'b n e'], keys: Float[Array, 'b t e'],
           values: Float[Array, 'b t d'], mask: Bool[Array, 'b *q t']) -> Float[Array, 'b n d']:
  """Dot-product attention without scaling, float32.

  mask: [b, t], or [b, n, t] for one mask per query; False means no influence.
  """
  wide = lambda x: x.astype(jnp.float32)
  scores = jnp.einsum('bne,bte->bnt', wide(queries), wide(keys))
  mask = mask if mask.ndim == 3 else mask[:, None]
  weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(jnp.float32).min), -1)
  return jnp.einsum('bnt,btd->bnd', weights, wide(values))


def tiled_mask(mask: Bool[Array, 'b t'], queries: int) -> Bool[Array, 'b n t']:
  """The masks of n queries in AttnGAN's released code, which is mistaken there.

  It repeats the whole batch of masks [b, t] n times, but the scores example by example: query q of
  example i gets the mask of example (i * n + q) mod b. Weights trained with it depend on that.
  """
  b = mask.shape[0]
  owners = (jnp.arange(b)[:, None] * queries + jnp.arange(queries)[None]) % b
  return mask[owners]
