"""Contrastive losses within groups of the batch instead of the whole batch."""
from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from xmc_jax.types import Array


def within(group: int | None, loss: Callable[..., Array]) -> Callable[..., Array]:
  """`loss` of arrays [b, ...], computed within successive groups of examples and averaged.

  group: the number of examples in a group, which must divide b; None means the whole batch, `loss`
    as it is.

  Groups are of the global batch, so the value does not depend on the number of devices; groups that
  lie on one device need no communication. XMC-GAN's released code contrasts the 8 examples of a
  device and averages over devices, which is `group=8`.
  """
  if group is None:
    return loss

  def grouped(*arrays: Array) -> Array:
    return jnp.mean(jax.vmap(loss)(*(x.reshape(-1, group, *x.shape[1:]) for x in arrays)))
  return grouped
