"""Reads a pickle of numpy arrays without running anything that the pickle says.

A pickle is a program: it names functions and calls them. Here the three names that numpy writes
for an array (`_reconstruct`, `ndarray`, `dtype`) stand for passive records of this file, every
other name is refused, and arrays are then made from the records' raw bytes. Numpy's own unpickling
code never sees the file.
"""
from __future__ import annotations

import os
import pickle
from typing import Any

import numpy as np

from xmc_jax.types import UserError

KINDS = 'fiub'  # floats, signed and unsigned integers, booleans; never objects


class _Record:
  """What the file says of one array or dtype: the arguments of its call and its state."""

  def __init__(self, *arguments):
    self.arguments = arguments
    self.state = None

  def __setstate__(self, state):
    self.state = state


class _ArrayRecord(_Record):
  pass


class _DtypeRecord(_Record):
  pass


class _NoClass:
  """Stands for `numpy.ndarray`, which the file only mentions as an argument."""


_NAMES = {
  ('numpy.core.multiarray', '_reconstruct'): _ArrayRecord,
  ('numpy._core.multiarray', '_reconstruct'): _ArrayRecord,
  ('numpy', 'dtype'): _DtypeRecord,
  ('numpy', 'ndarray'): _NoClass,
}


class _Unpickler(pickle.Unpickler):

  def find_class(self, module, name):
    if (module, name) not in _NAMES:
      raise UserError(f'it asks for {module}.{name}, and only numpy arrays are allowed')
    return _NAMES[module, name]


def read_arrays(path: str | os.PathLike[str]) -> Any:
  """The nested dicts, lists, tuples, numbers and strings of a pickle, arrays as numpy arrays.

  Raises:
    UserError: the file is missing or damaged, or holds anything else than numeric arrays and
      plain containers.
  """
  try:
    with open(path, 'rb') as file:
      return _plain(_Unpickler(file).load())
  except Exception as error:  # a damaged pickle can fail in any way
    raise UserError(f'The weights {path} cannot be read: {error}.') from error


def _plain(value: Any) -> Any:
  if isinstance(value, _ArrayRecord):
    return _array(value)
  if isinstance(value, dict):
    return {_plain(key): _plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return type(value)(_plain(item) for item in value)
  if value is None or type(value) in (bool, int, float, str, bytes):
    return value
  raise UserError(f'it holds a {type(value).__name__} that is not part of an array')


def _array(record: _ArrayRecord) -> np.ndarray:
  _, shape, dtype, fortran, data = record.state
  if not isinstance(dtype, _DtypeRecord) or not isinstance(data, bytes):
    raise UserError('an array in it has no plain numbers')
  code, order = dtype.arguments[0], dtype.state[1]
  if code[0] not in KINDS or not code[1:].isdigit() or order not in '<>|=':
    raise UserError(f'an array in it has the type {code!r}')
  flat = np.frombuffer(data, np.dtype(code).newbyteorder(order))
  return flat.reshape(shape, order='F' if fortran else 'C')
