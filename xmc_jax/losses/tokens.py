"""Token-wise contrast: which word of its own caption a region of the image shows.

After the token-wise alignment of MGCA (Wang et al., arXiv 2210.06044); of its two directions, the
one from words to regions. With unit vectors of regions r_n, and of words w_t less the mean of their
caption (a text encoder makes the words of a caption alike; MGCA does not subtract it):

  attention  a_tn = softmax over n of TOKEN_GAIN * cos(w_t, r_n)
  context    c_t  = sum over n of a_tn r_n
  loss of t       = -log softmax over the words s of TOKEN_GAIN * cos(c_t, w_s), at s = t

Contrasts with other captions reward an image whose regions all show a bit of each word of its
caption. Here such an image has the loss of chance, log of the number of words.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp

from xmc_jax.types import Array, Bool, Float
from xmc_jax.utils.arrays import unit

TOKEN_GAIN = 10.0       # sharpness of a word's attention, and inverse temperature of the contrast


def token_losses(regions: Float[Array, 'b n e'], words: Float[Array, 'b t e'],
                 mask: Bool[Array, 'b t']) -> Float[Array, 'b t']:
  """The loss of each word; 0 where masked. Each row of the mask has at least one True."""
  masked = lambda x: jnp.where(mask[..., None], x, 0)
  count = jnp.sum(mask, -1, dtype=jnp.float32)[:, None, None]
  words = unit(masked(words - masked(words).sum(1, keepdims=True) / count))
  regions = unit(regions)
  attention = jax.nn.softmax(TOKEN_GAIN * jnp.einsum('bte,bne->btn', words, regions), -1)
  context = unit(jnp.einsum('btn,bne->bte', attention, regions))
  logits = TOKEN_GAIN * jnp.einsum('bte,bse->bts', context, words)
  log_share = jax.nn.log_softmax(jnp.where(mask[:, None], logits, -jnp.inf), -1)
  return jnp.where(mask, -jnp.diagonal(log_share, axis1=1, axis2=2), 0)


@jax.named_call
def token_loss(regions: Float[Array, 'b n e'], words: Float[Array, 'b t e'],
               mask: Bool[Array, 'b t']) -> Float[Array, '']:
  """Mean of `token_losses` over all words."""
  return token_losses(regions, words, mask).sum() / jnp.sum(mask, dtype=jnp.float32)


@jax.named_call
def shown_token_loss(regions: Float[Array, 'b n e'], real: Float[Array, 'b n e'],
                     words: Float[Array, 'b t e'], mask: Bool[Array, 'b t']) -> Float[Array, '']:
  """Mean of `token_losses` over the words that the real image shows. This weighting is ours.

  A word counts by the probability with which it is told from the others in the regions of the real
  image; so articles and the like count little.
  """
  shown = jax.lax.stop_gradient(jnp.where(mask, jnp.exp(-token_losses(real, words, mask)), 0))
  return (shown * token_losses(regions, words, mask)).sum() / shown.sum()
