"""Weights in fewer bits: 'float16' or 'int8' in the file, float32 after reading.

In eight bits, a matrix is a whole number from -127 to 127 for each weight and one float32 scale for
each output, so no weight moves by more than half of 1/127 of the largest one beside it. Vectors
(biases, norms) are few and stay in half precision.
"""
from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from xmc_jax.types import UserError

DTYPES = ('float32', 'float16', 'int8')
_SCALE = '.int8_scale'      # suffix of the scales' names


def pack(tensors: Mapping[str, np.ndarray], dtype: str, outputs: int) -> dict[str, np.ndarray]:
  """The tensors as a file holds them; those that are not floating point stay as they are.

  Args:
    tensors: by name.
    dtype: one of `DTYPES`.
    outputs: the axis of a matrix along which the scales differ: 0 in PyTorch's layout, -1 in
      Flax's.
  Raises:
    UserError: a number is not finite, or too large for half precision.
  """
  packed = {}
  for name, x in tensors.items():
    if not jnp.issubdtype(x.dtype, jnp.floating):      # numpy's own does not know bfloat16
      packed[name] = x
      continue
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
      raise UserError(f'the weights {name} have values that are not finite; export an earlier step')
    if dtype == 'int8' and x.ndim > 1:
      others = tuple(axis for axis in range(x.ndim) if axis != outputs % x.ndim)
      scale = np.abs(x).max(axis=others, keepdims=True).astype(np.float32) / 127
      packed[name] = np.round(x / np.where(scale, scale, 1)).astype(np.int8)
      packed[name + _SCALE] = scale
    else:
      packed[name] = x.astype('float32' if dtype == 'float32' else 'float16')
      if not np.isfinite(packed[name]).all():
        raise UserError(f'the weights {name} do not fit into half precision; export them as '
                        'float32')
  return packed


def unpack(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The tensors of a file with those of eight bits as float32; others stay as they are."""
  return {name: x * tensors[name + _SCALE] if name + _SCALE in tensors else x
          for name, x in tensors.items() if not name.endswith(_SCALE)}
