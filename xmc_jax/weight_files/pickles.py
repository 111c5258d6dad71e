"""Reads a pickle of numpy arrays without running anything that the pickle says.

A pickle is a program: it names functions and calls them. Here the few names that a kind of file
needs stand for passive records of this package, every other name is refused, and arrays are then
made from the records' raw bytes. Neither numpy's nor torch's unpickling code ever sees the file.
"""
from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from xmc_jax.types import UserError
from xmc_jax.weight_files.files import reading

KINDS = 'fiub'  # floats, signed and unsigned integers, booleans; never objects


class Record:
  """What the file says of one thing: the arguments of its call and its state."""

  def __init__(self, *arguments):
    self.arguments = arguments
    self.state = None

  def __setstate__(self, state):
    self.state = state


class Mention(str):
  """Stands for a class that is only an argument; it can neither be called nor changed."""

  __slots__ = ()


class Unpickler(pickle.Unpickler):
  """Knows only the names of a table.

  Args:
    file: where the pickle starts.
    names: from `(module, name)` to a subclass of `Record`, of `dict`, or a `Mention`.
    allowed: what such a file may hold, for the error.
    storage: what stands for a persistent id; None where there are none.
    encoding: of the strings of Python 2.
  """

  def __init__(self, file: BinaryIO, names: Mapping[tuple[str, str], Any], allowed: str,
               storage: Callable[[Any], Any] | None = None, encoding: str = 'ASCII'):
    super().__init__(file, encoding=encoding)
    self._names = names
    self._allowed = allowed
    self._storage = storage

  def find_class(self, module, name):
    if (module, name) not in self._names:
      raise UserError(f'it asks for {module}.{name}, and only {self._allowed} are allowed')
    return self._names[module, name]

  def persistent_load(self, pid):
    if self._storage is None:
      raise UserError('it refers to things outside of it')
    return self._storage(pid)


def plain(value: Any, make: Mapping[type, Callable[[Any], Any]]) -> Any:
  """Nested dicts, lists, tuples, numbers and strings of what a file said.

  Args:
    value: what an `Unpickler` loaded.
    make: what becomes of the records of each class, such as an array.
  Raises:
    UserError: there is anything else in it.
  """
  if type(value) in make:
    return make[type(value)](value)
  if isinstance(value, dict):
    return {plain(key, make): plain(item, make) for key, item in value.items()}
  if type(value) in (list, tuple):
    return type(value)(plain(item, make) for item in value)
  if value is None or type(value) in (bool, int, float, str, bytes):
    return value
  raise UserError(f'it holds a {type(value).__name__} that is not part of an array')


class _ArrayRecord(Record):
  pass


class _DtypeRecord(Record):
  pass


class _ScalarRecord(Record):
  pass


class _BytesRecord(Record):
  pass


_NAMES = {
  ('numpy.core.multiarray', '_reconstruct'): _ArrayRecord,
  ('numpy._core.multiarray', '_reconstruct'): _ArrayRecord,
  ('numpy', 'dtype'): _DtypeRecord,
  ('numpy', 'ndarray'): Mention('numpy.ndarray'),
}
_OLD_NAMES = _NAMES | {
  ('numpy.core.multiarray', 'scalar'): _ScalarRecord,
  ('_codecs', 'encode'): _BytesRecord,      # how Python 3 writes bytes for Python 2
}


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """All arrays of a pickle, by the keys and numbers on the way to them: `{'conv1/0': ...}`.

  Raises:
    UserError: as `read_arrays`; or there is a leaf that is not an array.
  """
  found = {}
  todo = [('', read_arrays(path))]
  while todo:
    name, value = todo.pop()
    if isinstance(value, dict | list | tuple):
      items = value.items() if isinstance(value, dict) else enumerate(value)
      todo += [(f'{name}/{key}' if name else str(key), item) for key, item in items]
    elif isinstance(value, np.ndarray):
      found[name] = value
    else:
      raise UserError(f'The weights {path} cannot be read: {name} is {value!r} and not an array.')
  return found


def read_arrays(path: str | os.PathLike[str]) -> Any:
  """The nested dicts, lists, tuples, numbers and strings of a pickle, arrays as numpy arrays.

  Raises:
    UserError: the file is missing or damaged, or holds anything else than numeric arrays and
      plain containers.
  """
  with reading(path), open(path, 'rb') as file:
    return plain(Unpickler(file, _NAMES, 'numpy arrays').load(), {_ArrayRecord: _array})


def read_old(file: BinaryIO) -> Any:
  """What a pickle of Python 2, or one that it can read, says; for lists rather than weights.

  Its strings are taken as Latin-1, so that both text and the bytes of arrays survive.

  Returns:
    Nested dicts, lists, tuples, numbers and strings; arrays as numpy arrays, numpy's scalars as
    numbers.
  Raises:
    UserError: it holds anything else; the sentence says what "it" is.
    Exception: of any kind, where the file is damaged.
  """
  loaded = Unpickler(file, _OLD_NAMES, 'numpy arrays', encoding='latin1').load()
  return plain(loaded, {_ArrayRecord: _array, _ScalarRecord: _scalar})


def _array(record: _ArrayRecord) -> np.ndarray:
  _, shape, dtype, fortran, data = record.state
  return _numbers(dtype, data).reshape(shape, order='F' if fortran else 'C')


def _scalar(record: _ScalarRecord) -> bool | int | float:
  return _numbers(*record.arguments).item()


def _numbers(dtype: _DtypeRecord, data: bytes | str | _BytesRecord) -> np.ndarray:
  """Raw bytes as a flat array; a string of Python 2 stands for its Latin-1 bytes."""
  data = data.arguments[0] if isinstance(data, _BytesRecord) else data
  data = data.encode('latin1') if isinstance(data, str) else data
  if not isinstance(dtype, _DtypeRecord) or not isinstance(data, bytes):
    raise UserError('an array in it has no plain numbers')
  code, order = dtype.arguments[0], dtype.state[1]
  if code[0] not in KINDS or not code[1:].isdigit() or order not in '<>|=':
    raise UserError(f'an array in it has the type {code!r}')
  return np.frombuffer(data, np.dtype(code).newbyteorder(order))
