"""Reads the state dict of a `.pth` file without torch and without running any code in it.

Both formats are supported: the zip archive that torch writes since 1.6, and the older stream of
pickles. Either describes the tensors in a pickle (storage, offset, shape, strides) and keeps the
values of the storages separately, as raw bytes. The pickle is read by `pickles.Unpickler`, which
resolves the names below and refuses all others. TorchScript archives and pickled modules are
therefore refused too.
"""
from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from xmc_jax.types import UserError
from xmc_jax.weight_files.files import reading
from xmc_jax.weight_files.pickles import Mention, Record, Unpickler, plain

# Names of variables in Flax and in torch.
LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean',
          'var': 'running_var'}

_MAGIC, _VERSION = 0x1950a86a20f9469cfc6c, 1001  # of the stream's first two pickles
_TYPES = {
  'DoubleStorage': 'f8', 'FloatStorage': 'f4', 'HalfStorage': 'f2', 'BFloat16Storage': 'bfloat16',
  'LongStorage': 'i8', 'IntStorage': 'i4', 'ShortStorage': 'i2', 'CharStorage': 'i1',
  'ByteStorage': 'u1', 'BoolStorage': '?'}


class _Tensor(Record):
  """Arguments of `_rebuild_tensor_v2`: storage, offset, shape, strides, and autograd state.

  Up to version 0.3 torch wrote `_rebuild_tensor`, with the first four of them.
  """


class _Parameter(Record):
  """Arguments of `_rebuild_parameter`: the tensor, and autograd state.

  Up to version 0.4 torch wrote the class itself, with the tensor as its first argument or, made
  without arguments, as the first part of its state.
  """


class _StateDict(dict):

  def __setstate__(self, state):
    """Ignores the module versions that torch stores with the tensors."""


_NAMES = {
  ('torch._utils', '_rebuild_tensor_v2'): _Tensor,
  ('torch._utils', '_rebuild_tensor'): _Tensor,
  ('torch._utils', '_rebuild_parameter'): _Parameter,
  ('torch.nn.parameter', 'Parameter'): _Parameter,
  ('collections', 'OrderedDict'): _StateDict,
  **{('torch', name): Mention(name) for name in _TYPES}}


class _Storage(NamedTuple):
  """A flat buffer that tensors share; `key` is its name inside the file."""

  key: str
  kind: str
  size: int


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The tensors of a file by name; bfloat16 becomes float32.

  Names of nested dicts are joined with dots. Numbers, strings and lists are left out. Arrays are
  read-only views where tensors share a storage.

  Raises:
    UserError: the file is missing or damaged, or refers to anything but tensors.
  """
  with reading(path), open(path, 'rb') as file:
    tree, storages = _archive(file) if zipfile.is_zipfile(file) else _stream(file)
    make = {
      _StateDict: lambda x: {str(key): plain(item, make) for key, item in x.items()},
      _Parameter: lambda x: plain((x.arguments or x.state)[0], make),
      _Tensor: lambda x: _tensor(storages, *x.arguments[:4])}
    return dict(_named(plain(tree, make)))


def _archive(file: BinaryIO) -> tuple[Any, dict[str, np.ndarray]]:
  with zipfile.ZipFile(file) as archive:
    names = archive.namelist()
    tops = [name.removesuffix('data.pkl') for name in names if name.endswith('/data.pkl')]
    if len(tops) != 1:
      raise UserError('it is a zip file without a data.pkl, so it was not written by torch')
    if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
      raise UserError('it is compressed, which torch never does')
    top = tops[0]
    order = archive.read(f'{top}byteorder') if f'{top}byteorder' in names else b'little'
    wanted: dict[str, _Storage] = {}
    tree = _load(io.BytesIO(archive.read(f'{top}data.pkl')), wanted)
    return tree, {
      key: _numbers(archive.read(f'{top}data/{key}'), storage, order == b'little')
      for key, storage in wanted.items()}


def _stream(file: BinaryIO) -> tuple[Any, dict[str, np.ndarray]]:
  file.seek(0)
  nothing: Mapping = {}
  if Unpickler(file, nothing, 'numbers').load() != _MAGIC:
    raise UserError('it was not written by torch')
  if Unpickler(file, nothing, 'numbers').load() != _VERSION:
    raise UserError('it has an unknown version of the torch format')
  little = Unpickler(file, nothing, 'numbers').load()['little_endian']
  wanted: dict[str, _Storage] = {}
  tree = _load(file, wanted)
  order = '<' if little else '>'
  storages = {}
  for key in Unpickler(file, nothing, 'names').load():
    storage = wanted[key]
    size, = struct.unpack(f'{order}q', file.read(8))
    if size != storage.size:
      raise UserError(f'its storage {key} has {size} numbers instead of {storage.size}')
    width = 2 if storage.kind == 'bfloat16' else np.dtype(storage.kind).itemsize
    storages[key] = _numbers(file.read(size * width), storage, little)
  return tree, storages


def _load(file: BinaryIO, wanted: dict[str, _Storage]) -> Any:
  """Loads the pickle that describes the tensors, and adds the storages it uses to `wanted`."""

  def mention(pid: Any) -> _Storage:
    word, kind, key, _, size, *view = pid
    if word != 'storage' or not isinstance(kind, Mention) or any(view):
      raise UserError(f'it refers to something that is not a whole storage: {pid!r}')
    return wanted.setdefault(str(key), _Storage(str(key), _TYPES[kind], size))

  return Unpickler(file, _NAMES, 'tensors', mention).load()


def _numbers(data: bytes, storage: _Storage, little: bool) -> np.ndarray:
  order = '<' if little else '>'
  if storage.kind == 'bfloat16':
    half = np.frombuffer(data, f'{order}u2').astype(np.uint16)
    numbers = half.view(ml_dtypes.bfloat16).astype(np.float32)
  else:
    numbers = np.frombuffer(data, np.dtype(storage.kind).newbyteorder(order))
  if len(numbers) != storage.size:
    raise UserError(f'its storage {storage.key} has {len(numbers)} numbers instead of '
                    f'{storage.size}')
  return numbers


def _tensor(storages: Mapping[str, np.ndarray], storage: _Storage, offset: int,
            shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
  numbers = storages[storage.key]
  if len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
    raise UserError(f'it has a tensor of shape {shape} and strides {strides}')
  last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides))
  if math.prod(shape) and last >= len(numbers):
    raise UserError(f'it has a tensor that ends beyond its storage {storage.key}')
  return np.lib.stride_tricks.as_strided(
    numbers[offset:], shape, [stride * numbers.itemsize for stride in strides], writeable=False)


def _named(tree: Any, prefix: str = '') -> Iterator[tuple[str, np.ndarray]]:
  if isinstance(tree, np.ndarray):
    yield prefix, tree
  elif isinstance(tree, dict):
    for key, item in tree.items():
      yield from _named(item, f'{prefix}.{key}' if prefix else str(key))
