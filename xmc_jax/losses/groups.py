"""Which rows contrast with one another: all of the global batch, or those of a group."""
from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from xmc_jax.types import Array


def within(rows: int | None, loss: Callable[..., Array]) -> Callable[..., Array]:
  """`loss` of arrays [b, ...] within successive groups of `rows` rows, as the mean over groups.

  None means all rows, `loss` as it is. `rows` must divide b. Groups are of the global batch, so the
  value does not depend on the number of devices; where a device holds whole groups nothing travels.
  XMC-GAN's released code contrasts the 8 rows of a device and averages the losses of all devices:
  that is `rows=8`.
  """
  if rows is None:
    return loss

  def grouped(*arrays: Array) -> Array:
    return jnp.mean(jax.vmap(loss)(*(x.reshape(-1, rows, *x.shape[1:]) for x in arrays)))
  return grouped
