"""From the named arrays of a file of weights to the variables of a Flax module."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from xmc_jax.types import Tree, UserError

Path = tuple[str, ...]


def fill(wanted: Tree, arrays: Mapping[str, np.ndarray], spell: Callable[[Path], Sequence[str]],
         *, layout: str = 'torch') -> Tree:
  """Variables of the shapes of `wanted`, taken from `arrays`; float arrays become float32.

  Args:
    wanted: what `jax.eval_shape(module.init, ...)` says, collections included.
    arrays: the file's; names that nobody asks for are ignored.
    spell: from a path in `wanted`, such as `('params', 'conv', 'kernel')`, to the names that the
      array may have in the file, the usual one first.
    layout: 'torch' keeps kernels as [out, in, h, w] and [out, in]; 'jax' as we do, [h, w, in, out]
      and [in, out], which is TensorFlow's and Keras' way too.
  Raises:
    UserError: an array is missing or has another shape; the sentence does not name the file.
  """
  filled = {}
  for path, struct in traverse_util.flatten_dict(wanted).items():
    names = spell(path)
    name = next((name for name in names if name in arrays), None)
    if name is None:
      raise UserError(f'there is no tensor {names[0]} in it')
    value = np.asarray(arrays[name])
    if layout == 'torch' and path[-1] == 'kernel':
      value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    if value.shape != struct.shape:
      raise UserError(f'the tensor {name} in it has the shape {value.shape} instead of '
                      f'{struct.shape} (in our order of axes)')
    filled[path] = jnp.asarray(value, struct.dtype)
  return traverse_util.unflatten_dict(filled)
