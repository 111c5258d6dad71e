"""A bidirectional LSTM over captions of any lengths, as `torch.nn.LSTM` computes it of packed ones.

Both directions are one scan; what the inputs give to the gates of all steps is one product of
matrices before it.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from xmc_jax.types import Array


class BiLstm(nn.Module):
  """One layer, `width` features a direction; initial states are zero.

  Parameters, the two directions along the first axis: `input` [2, d, 4 * width] and `hidden`
  [2, width, 4 * width], gates in the order in, forget, cell, out; and two biases, as PyTorch has
  them. All begin uniform in +-1 / sqrt(width), PyTorch's default.
  """

  width: int

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> tuple[Array, Array]:
    """x [b, t, d] and mask [b, t] bool, True up to each caption's end, padding behind it.

    Returns the states of all steps [b, t, 2 * width], 0 at padding, and the last ones
    [b, 2 * width]: of the forward direction that of the last word, of the backward one that of the
    first. Of a caption without words all are 0.
    """
    def begin(rng, shape):
      bound = 1 / np.sqrt(self.width)
      return jax.random.uniform(rng, shape, jnp.float32, -bound, bound)

    gates = 4 * self.width
    kernel = self.param('input', begin, (2, x.shape[-1], gates))
    hidden = self.param('hidden', begin, (2, self.width, gates))
    bias = sum(self.param(f'{name}_bias', begin, (2, gates)) for name in ('input', 'hidden'))

    given = jnp.einsum('btd,zdg->ztbg', x, kernel) + bias[:, None, None]
    both = lambda forward, backward: jnp.stack([forward, backward[::-1]], 1)    # [t, 2, ...]
    # The backward direction meets padding first, and begins at the last word with a zero state.
    there = both(mask.T, mask.T)[..., None]                                     # [t, 2, b, 1]

    def step(state, now):
      h, c = state
      given, there = now
      enter, forget, cell, out = jnp.split(
          given + jnp.einsum('zbh,zhg->zbg', h, hidden), 4, -1)
      new_c = nn.sigmoid(forget) * c + nn.sigmoid(enter) * jnp.tanh(cell)
      new_h = nn.sigmoid(out) * jnp.tanh(new_c)
      state = jnp.where(there, new_h, h), jnp.where(there, new_c, c)
      return state, jnp.where(there, new_h, 0)

    zero = jnp.zeros((2, len(x), self.width), given.dtype)
    (last, _), states = jax.lax.scan(step, (zero, zero), (both(*given), there))
    words = jnp.concatenate([states[:, 0], states[::-1, 1]], -1)                # [t, b, 2 * width]
    return jnp.swapaxes(words, 0, 1), jnp.concatenate([last[0], last[1]], -1)
