"""Rematerialization: the backward pass recomputes activations instead of keeping them."""
from __future__ import annotations

import flax.linen as nn


def maybe_remat(block: type[nn.Module], what: str, *, static: tuple[int, ...] = ()
               ) -> type[nn.Module]:
  """`block`, whose activations the backward pass recomputes if `what` is 'blocks'.

  what: 'nothing' or 'blocks', which keeps only the inputs of a block. Keeping the results of its
    convolutions as well saved no memory as compiled for TPUs.
  static: positions of the arguments of its `__call__` that are not arrays; `self` is 0.
  """
  return {'nothing': block, 'blocks': nn.remat(block, static_argnums=static)}[what]
