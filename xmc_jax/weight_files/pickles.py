"""Reads a pickle of numpy arrays without running any code that the pickle refers to.

A pickle is a program that imports functions and calls them. Here, the few names that a kind of file
needs are mapped to passive records of this package, and every other name is refused. Arrays are
then made from the raw bytes in the records. Neither numpy's nor torch's unpickling code ever sees
the file.
"""
from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from xmc_jax.types import UserError
from xmc_jax.weight_files.files import reading

NUMERIC_KINDS = 'fiub'  # floats, signed and unsigned integers, booleans; never objects


class Record:
  """One object of the file: the arguments of its constructor call, and its state."""

  def __new__(cls, *arguments):      # not __init__, which some pickles do without
    record = super().__new__(cls)
    record.arguments, record.state = arguments, None
    return record

  def __setstate__(self, state):
    self.state = state


class Mention(str):
  """Stands for a class that is only used as an argument; it cannot be called or changed."""

  __slots__ = ()


class Unpickler(pickle.Unpickler):
  """Resolves only the names in a table.

  Args:
    file: positioned at the start of the pickle.
    names: from `(module, name)` to a subclass of `Record` or `dict`, or a `Mention`.
    allowed: what such a file may hold, for the error message.
    storage: resolves a persistent id; None if there are none.
    encoding: of Python 2 strings.
  """

  def __init__(self, file: BinaryIO, names: Mapping[tuple[str, str], Any], allowed: str,
               storage: Callable[[Any], Any] | None = None, encoding: str = 'ASCII'):
    super().__init__(file, encoding=encoding)
    self._names = names
    self._allowed = allowed
    self._storage = storage

  def find_class(self, module, name):
    if (module, name) not in self._names:
      raise UserError(f'it refers to {module}.{name}, but only {self._allowed} are allowed')
    return self._names[module, name]

  def persistent_load(self, pid):
    if self._storage is None:
      raise UserError('it refers to data outside the file')
    return self._storage(pid)


def plain(value: Any, make: Mapping[type, Callable[[Any], Any]]) -> Any:
  """Converts the records in nested containers, and checks that everything else is plain data.

  Args:
    value: result of `Unpickler.load`.
    make: for each class of records, a function that converts them, for example to arrays.
  Returns:
    Nested dicts, lists, tuples, numbers and strings, and what `make` returns.
  Raises:
    UserError: it holds anything else.
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
  ('_codecs', 'encode'): _BytesRecord,      # how Python 3 pickles bytes for Python 2
}


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """All arrays of a pickle, named by the keys and indices that lead to them: `{'conv1/0': ...}`.

  Raises:
    UserError: as by `read_arrays`, or a leaf is not an array.
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
      raise UserError(f'the weights {path} cannot be read: {name} is {value!r}, not an array')
  return found


def read_arrays(path: str | os.PathLike[str]) -> Any:
  """The nested dicts, lists, tuples, numbers, strings and numpy arrays of a pickle.

  Raises:
    UserError: the file is missing or damaged, or holds anything but numeric arrays and plain
      containers.
  """
  with reading(path), open(path, 'rb') as file:
    return plain(Unpickler(file, _NAMES, 'numpy arrays').load(), {_ArrayRecord: _array})


def read_old(file: BinaryIO) -> Any:
  """Reads a pickle written by or for Python 2; meant for lists rather than weights.

  Strings are decoded as Latin-1, so that both text and the bytes of arrays survive.

  Returns:
    Nested dicts, lists, tuples, numbers, strings and numpy arrays; numpy scalars become numbers.
  Raises:
    UserError: it holds anything else. The message calls the file "it".
    Exception: of any kind, if the file is damaged.
  """
  loaded = Unpickler(file, _OLD_NAMES, 'numpy arrays', encoding='latin1').load()
  return plain(loaded, {_ArrayRecord: _array, _ScalarRecord: _scalar})


def _array(record: _ArrayRecord) -> np.ndarray:
  _, shape, dtype, fortran, data = record.state
  return _numbers(dtype, data).reshape(shape, order='F' if fortran else 'C')


def _scalar(record: _ScalarRecord) -> bool | int | float:
  return _numbers(*record.arguments).item()


def _numbers(dtype: _DtypeRecord, data: bytes | str | _BytesRecord) -> np.ndarray:
  """Raw bytes as a flat array; a Python 2 string stands for its Latin-1 bytes."""
  data = data.arguments[0] if isinstance(data, _BytesRecord) else data
  data = data.encode('latin1') if isinstance(data, str) else data
  if not isinstance(dtype, _DtypeRecord) or not isinstance(data, bytes):
    raise UserError('it has an array without plain numbers')
  code, order = dtype.arguments[0], dtype.state[1]
  if code[0] not in NUMERIC_KINDS or not code[1:].isdigit() or order not in '<>|=':
    raise UserError(f'it has an array of type {code!r}')
  return np.frombuffer(data, np.dtype(code).newbyteorder(order))
