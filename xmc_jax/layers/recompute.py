"""Trading arithmetic for memory: what the backward pass computes again instead of keeping."""
from __future__ import annotations

import flax.linen as nn
import jax

from xmc_jax.layers.conv import KEPT

# Of a block: everything; all but its convolutions' results; nothing but its inputs.
POLICIES = {'nothing': jax.checkpoint_policies.everything_saveable,
            'elementwise': jax.checkpoint_policies.save_only_these_names(KEPT),
            'blocks': jax.checkpoint_policies.nothing_saveable}


def recomputed(block: type[nn.Module], what: str, *, static: tuple[int, ...] = ()
               ) -> type[nn.Module]:
  """`block` of which the backward pass computes `what` again: the same function, less memory.

  what: 'nothing'; 'elementwise': normalisations, modulations and nonlinearities, which cost little;
    'blocks': the convolutions too, about a third more arithmetic.
  static: positions of arguments of its `__call__` that are no arrays; `self` is 0.
  """
  if what == 'nothing':
    return block
  return nn.remat(block, policy=POLICIES[what], static_argnums=static)
