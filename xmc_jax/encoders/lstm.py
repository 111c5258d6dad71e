"""A bidirectional LSTM for captions of any lengths; equals `torch.nn.LSTM` on packed sequences.

Both directions run in one scan. The contributions of the inputs to the gates of all steps are
computed before it, in one matrix product.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from xmc_jax.types import Array


class BiLstm(nn.Module):
  """One layer with `width` features per direction; initial states are zero.

  Parameters, with the two directions along the first axis: `input` [2, d, 4 * width], `hidden`
  [2, width, 4 * width] and two biases, as in PyTorch; the gates are in the order input, forget,
  cell, output. All are initialized uniformly in +-1 / sqrt(width), PyTorch's default.
  """
  width: int

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> tuple[Array, Array]:
    """Encodes captions.

    x: [b, t, d].
    mask: bool [b, t], True for words, followed by padding.

    Returns the states of all steps [b, t, 2 * width], 0 at padding; and the final states
    [b, 2 * width], at the last word in the forward and at the first word in the backward direction.
    All are 0 for a caption without words.
    """
    def init(rng, shape):
      bound = 1 / np.sqrt(self.width)
      return jax.random.uniform(rng, shape, jnp.float32, -bound, bound)

    gates = 4 * self.width
    kernel = self.param('input', init, (2, x.shape[-1], gates))
    hidden = self.param('hidden', init, (2, self.width, gates))
    bias = sum(self.param(f'{name}_bias', init, (2, gates)) for name in ('input', 'hidden'))

    given = jnp.einsum('btd,zdg->ztbg', x, kernel) + bias[:, None, None]
    both = lambda forward, backward: jnp.stack([forward, backward[::-1]], 1)    # [t, 2, ...]
    # The backward direction starts in the padding, and keeps a zero state until the last word.
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
