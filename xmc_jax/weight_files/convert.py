"""Converts the named arrays of a weight file to the variables of a Flax module."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from xmc_jax.types import Tree, UserError

Path = tuple[str, ...]


def fill(wanted: Tree, arrays: Mapping[str, np.ndarray], names_of: Callable[[Path], Sequence[str]],
         *, layout: str = 'torch') -> Tree:
  """Fills variables of the shapes and dtypes of `wanted` with values from `arrays`.

  Args:
    wanted: result of `jax.eval_shape(module.init, ...)`, including collections.
    arrays: those in the file; unused ones are ignored.
    names_of: from a path in `wanted`, such as `('params', 'conv', 'kernel')`, to the names that the
      array may have in the file, the usual one first.
    layout: 'torch' if kernels are [out, in, h, w] and [out, in] in the file; 'jax' if they are
      [h, w, in, out] and [in, out], as in Flax, TensorFlow and Keras.
  Raises:
    UserError: an array is missing or has another shape. The message does not name the file.
  """
  filled = {}
  for path, struct in traverse_util.flatten_dict(wanted).items():
    names = names_of(path)
    name = next((name for name in names if name in arrays), None)
    if name is None:
      raise UserError(f'it has no tensor {names[0]}')
    value = np.asarray(arrays[name])
    if layout == 'torch' and path[-1] == 'kernel':
      value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    if value.shape != struct.shape:
      raise UserError(f'its tensor {name} has the shape {value.shape} instead of {struct.shape} '
                      "(in Flax's order of axes)")
    filled[path] = jnp.asarray(value, struct.dtype)
  return traverse_util.unflatten_dict(filled)
