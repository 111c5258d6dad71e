"""Applies a compiled function to any number of examples in batches of one shape."""
from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from xmc_jax.types import Tree


def batch_for(n: int, most: int) -> int:
  """The batch size for n examples: `most`, or a smaller power of two that holds them all.

  So a few examples do not cost as much as `most`, and few batch sizes are compiled.
  """
  return min(most, 1 << max(n - 1, 0).bit_length())


def in_batches(function: Callable[..., Tree], *arrays: np.ndarray, batch: int) -> Tree:
  """`function(*arrays)` for arrays [n, ...], computed `batch` examples at a time.

  The last batch is padded with zeros, so that only one shape is compiled. Products are computed in
  float32 on GPUs and TPUs too, whose default is coarser.

  Returns the function's output as numpy arrays [n, ...].
  """
  outputs = []
  for start in range(0, len(arrays[0]), batch):
    parts = [x[start:start + batch] for x in arrays]
    count = len(parts[0])
    padded = [np.pad(x, [(0, batch - count)] + [(0, 0)] * (x.ndim - 1)) for x in parts]
    with jax.default_matmul_precision('highest'):
      found = function(*padded)
    outputs.append(jax.tree.map(lambda x: np.asarray(x)[:count], found))
  return jax.tree.map(lambda *x: np.concatenate(x), *outputs)
