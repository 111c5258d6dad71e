"""Trading arithmetic for memory: what the backward pass computes again instead of keeping."""
from __future__ import annotations

import flax.linen as nn


def maybe_remat(block: type[nn.Module], what: str, *, static: tuple[int, ...] = ()
               ) -> type[nn.Module]:
  """`block` of which the backward pass computes `what` again: the same function, less memory.

  what: 'nothing'; 'blocks': all but its inputs. Keeping the convolutions' results too was tried:
    it saved no memory as compiled for TPUs.
  static: positions of arguments of its `__call__` that are no arrays; `self` is 0.
  """
  return {'nothing': block, 'blocks': nn.remat(block, static_argnums=static)}[what]
