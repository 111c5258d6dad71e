"""Converts the named arrays of a weight file to the variables of a Flax module."""
from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from xmc_jax.types import Tree, UserError

Path = tuple[str, ...]
# Parts of names that PyTorch adds for modules that it wraps, to distribute or to compile them.
WRAPPERS = re.compile(r'\b(module|_orig_mod|_fsdp_wrapped_module)\.')


def fill(wanted: Tree, arrays: Mapping[str, np.ndarray], names_of: Callable[[Path], Sequence[str]],
         *, layout: str = 'torch') -> Tree:
  """Fills variables of the shapes and dtypes of `wanted` with values from `arrays`.

  Args:
    wanted: result of `jax.eval_shape(module.init, ...)`, including collections.
    arrays: those in the file; unused ones are ignored. All names may have a prefix in common, such
      as 'state_dict.' or 'bert.', and wrappers of a module between their parts.
    names_of: from a path in `wanted`, such as `('params', 'conv', 'kernel')`, to the names that the
      array may have in the file, the usual one first.
    layout: 'torch' if kernels are [out, in, h, w] and [out, in] in the file; 'jax' if they are
      [h, w, in, out] and [in, out], as in Flax, TensorFlow and Keras.
  Raises:
    UserError: an array is missing, has another shape or a value that is not finite, or the file
      holds the network twice. The message does not name the file.
  """
  filled = {}
  paths = traverse_util.flatten_dict(wanted)
  in_file: dict[str, list[str]] = {}
  for name in arrays:
    in_file.setdefault(WRAPPERS.sub('', name), []).append(name)
  prefix = _prefix(list(map(names_of, paths)), in_file)
  for path, struct in paths.items():
    names = [prefix + name for name in names_of(path)]
    copies = next((in_file[name] for name in names if name in in_file), None)
    if not copies:
      raise UserError(f'it has no tensor {names[0]}; its tensors are named like '
                      f'{min(arrays, default="nothing")}')
    if len(copies) > 1:
      raise UserError(f'it has the tensors {" and ".join(copies)}, and only one of them can be '
                      'meant; keep that one in the file')
    name, value = copies[0], np.asarray(arrays[copies[0]])
    if layout == 'torch' and path[-1] == 'kernel':
      value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    if value.shape != struct.shape:
      raise UserError(f'its tensor {name} has the shape {value.shape} instead of {struct.shape} '
                      "(in Flax's order of axes)")
    value = np.asarray(value, struct.dtype)
    if not np.isfinite(value).all():
      raise UserError(f'its tensor {name} has values that are NaN or infinite, so the file is '
                      'damaged or its training failed; get another copy')
    filled[path] = jnp.asarray(value)
  return traverse_util.unflatten_dict(filled)


def _prefix(wanted: Sequence[Sequence[str]], in_file: Collection[str]) -> str:
  """The prefix with which the file has all names, or most; UserError if there are several."""
  prefixes = {'', *(name.removesuffix(known) for name in in_file for known in wanted[0]
                    if name.endswith((f'.{known}', f'/{known}')))}
  count = lambda prefix: sum(any(prefix + name in in_file for name in names) for names in wanted)
  whole = [prefix for prefix in sorted(prefixes) if count(prefix) == len(wanted)]
  if len(whole) > 1:
    raise UserError(f'it holds the network {len(whole)} times, with the prefixes '
                    f'{" and ".join(map(repr, whole))} of names; keep one of them in the file')
  return whole[0] if whole else max(sorted(prefixes), key=count)
