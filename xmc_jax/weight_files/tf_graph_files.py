"""Reads the constants of a frozen TensorFlow graph without TensorFlow.

A frozen graph is a `GraphDef` protocol buffer whose weights are `Const` nodes. The message classes
come from tensorboard. Nothing in the graph is run, and its other nodes are ignored.
"""
from __future__ import annotations

import math
import os
import pathlib
import tarfile
import zipfile

import ml_dtypes
import numpy as np

from xmc_jax.types import UserError
from xmc_jax.utils.optional import extra
from xmc_jax.weight_files.files import reading

# By `DataType` of types.proto: the numpy dtype, and the field that lists the values if they are not
# stored as raw bytes.
_TYPES = {
  1: (np.dtype('<f4'), 'float_val'),
  2: (np.dtype('<f8'), 'double_val'),
  3: (np.dtype('<i4'), 'int_val'),
  4: (np.dtype('u1'), 'int_val'),
  9: (np.dtype('<i8'), 'int64_val'),
  10: (np.dtype('?'), 'bool_val'),
  14: (np.dtype(ml_dtypes.bfloat16), 'half_val'),
  19: (np.dtype('<f2'), 'half_val')}


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The numeric constants of a graph by node name; strings are left out.

  Args:
    path: a `.pb` file, or a `.tgz` or `.zip` archive with exactly one, as published.
  Raises:
    UserError: the file is missing or damaged, or holds no constants.
  """
  # Imported late, because most uses of the encoders do not need tensorboard.
  with extra('train', f'{path} is a frozen TensorFlow graph'):
    from tensorboard.compat.proto import graph_pb2
  with reading(path):
    graph = graph_pb2.GraphDef.FromString(_bytes(pathlib.Path(path)))
    arrays = {}
    for node in graph.node:
      if node.op == 'Const' and node.attr['value'].tensor.dtype in _TYPES:
        arrays[node.name] = _array(node.attr['value'].tensor)
    if not arrays:
      raise UserError('it is not a frozen TensorFlow graph: it has no constants')
    return arrays


def _bytes(path: pathlib.Path) -> bytes:
  if zipfile.is_zipfile(path):
    with zipfile.ZipFile(path) as archive:
      return archive.read(_only([x for x in archive.namelist() if x.endswith('.pb')]))
  if path.suffix in ('.tgz', '.gz', '.tar'):
    with tarfile.open(path) as archive:
      files = [x for x in archive.getmembers() if x.isfile() and x.name.endswith('.pb')]
      return archive.extractfile(_only(files)).read()
  return path.read_bytes()


def _only(found: list):
  if len(found) != 1:
    raise UserError(f'it holds {len(found)} .pb files instead of one')
  return found[0]


def _array(tensor) -> np.ndarray:
  kind, field = _TYPES[tensor.dtype]
  shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
  if tensor.tensor_content:
    return np.frombuffer(tensor.tensor_content, kind).reshape(shape)
  numbers = getattr(tensor, field)
  if field == 'half_val':
    numbers = np.array(numbers, np.uint16).view(kind)
  numbers = np.array(numbers, kind)
  if not numbers.size:
    return np.zeros(shape, kind)
  # The last value stands for all that follow.
  return np.pad(numbers, (0, math.prod(shape) - numbers.size), mode='edge').reshape(shape)
