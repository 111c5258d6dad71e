"""Reads Keras weight files (HDF5) without Keras.

There are two layouts: `.h5` of Keras 1 and 2, which Keras 3 can still write, with a group per layer
that lists the names of its weights as an attribute; and Keras 3's `.weights.h5`, where the weights
of a layer are numbered.
"""
from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from xmc_jax.types import UserError
from xmc_jax.weight_files.files import reading
from xmc_jax.weight_files.pickles import NUMERIC_KINDS

if TYPE_CHECKING:
  import h5py


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The weights of a file as `{'LAYER/WEIGHT': array}`.

  In the older layout, WEIGHT is Keras' name, as in `conv2d_1/kernel`. In that of Keras 3 it is the
  index in the layer's `weights`, and LAYER is the name of the layer's class, numbered in order:
  `conv2d/0`, `conv2d_1/0`.

  Raises:
    UserError: the file is missing, damaged or of another kind.
  """
  import h5py  # not for those who read no such file
  with reading(path), h5py.File(path, 'r', locking=False) as file:
    top = file['model_weights'] if 'model_weights' in file else file  # a saved model
    found = _older(top) if 'layer_names' in top.attrs else _keras3(top)
    if not found:
      raise UserError('it is not a Keras weight file')
    if any(dataset.dtype.kind not in NUMERIC_KINDS for dataset in found.values()):
      raise UserError('it holds values that are not numbers')
    return {name: np.asarray(dataset[()]) for name, dataset in found.items()}


def _older(top: h5py.Group) -> dict[str, h5py.Dataset]:
  found = {}
  for layer in _texts(top.attrs['layer_names']):
    for weight in _texts(top[layer].attrs['weight_names']):
      name = weight.removesuffix(':0').removeprefix(f'{layer}/')
      found[f'{layer}/{name}'] = top[layer][weight]
  return found


def _keras3(top: h5py.Group) -> dict[str, h5py.Dataset]:
  import h5py
  found = {}

  def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
    *layer, group, number = path.split('/') if '/' in path else ('', path)
    if isinstance(item, h5py.Dataset) and group == 'vars':
      found['/'.join([x for x in layer if x != 'layers'] + [number])] = item

  top.visititems(visit)
  return found


def _texts(names: np.ndarray) -> list[str]:
  return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
