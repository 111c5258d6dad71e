"""Applies a compiled function to any number of examples in batches of one shape."""
from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from xmc_jax.types import Tree


def in_batches(function: Callable[..., Tree], *arrays: np.ndarray, batch: int) -> Tree:
  """`function(*arrays)` for arrays [n, ...], computed `batch` examples at a time.

  The last batch is padded with zeros, so that only one shape is compiled.

  Returns the function's output as numpy arrays [n, ...].
  """
  outputs = []
  for start in range(0, len(arrays[0]), batch):
    parts = [x[start:start + batch] for x in arrays]
    count = len(parts[0])
    padded = [np.pad(x, [(0, batch - count)] + [(0, 0)] * (x.ndim - 1)) for x in parts]
    outputs.append(jax.tree.map(lambda x: np.asarray(x)[:count], function(*padded)))
  return jax.tree.map(lambda *x: np.concatenate(x), *outputs)
