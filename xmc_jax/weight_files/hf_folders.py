"""Folders of weights in Hugging Face's layout: config.json, the weights, and a tokenizer."""
from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from safetensors import numpy as safetensors_numpy

from xmc_jax.types import Tree, UserError
from xmc_jax.utils import atomic
from xmc_jax.utils.hashing import file_sha256, json_sha256
from xmc_jax.weight_files import files, torch_files
from xmc_jax.weight_files.convert import Path, fill

_READERS = {'.safetensors': files.read_safetensors, '.bin': torch_files.read}
WHOLE = ('model.safetensors', 'pytorch_model.bin')
# An index says which of several files has which tensor. The first file that exists is used.
INDEXES = tuple(f'{name}.index.json' for name in WHOLE)
WEIGHTS = ' or '.join(WHOLE)


def size(config: Mapping[str, Any], key: str, kind: type = int) -> Any:
  """A size in a `config.json`. KeyError if it has none, ValueError if that is no number above 0."""
  try:
    number = kind(config[key])
  except OverflowError as error:      # of an infinity
    raise ValueError(f'{key} is {config[key]}') from error
  if kind is int and isinstance(config[key], float) and number != config[key]:
    raise ValueError(f'{key} is {config[key]}, and has to be a whole number')
  if not 0 < number < 2**31:
    raise ValueError(f'{key} is {number:.9g}, and has to be above 0 and below 2147483648')
  return number


def places(name_or_path: str | os.PathLike[str]) -> list[pathlib.Path]:
  """Where a folder may be: at the path itself, or inside one of `files.folders()`."""
  path = pathlib.Path(name_or_path).expanduser()
  return list(dict.fromkeys([path, *(folder / path for folder in files.folders())]))


def find(name_or_path: str | os.PathLike[str]) -> pathlib.Path | None:
  """The first folder of `places` that exists."""
  return next((place for place in places(name_or_path) if place.is_dir()), None)


def missing_files(folder: pathlib.Path, *required: str) -> list[str]:
  """Which of the `required` files, and of any weights, a folder lacks."""
  missing = [name for name in required if not (folder / name).is_file()]
  return missing if weights_file(folder).is_file() else [*missing, WEIGHTS]


def shown(places: list[pathlib.Path]) -> str:
  """Folders as a phrase of an error message."""
  return ' or '.join(dict.fromkeys(str(place.absolute()) for place in places))


def weights_file(folder: str | os.PathLike[str]) -> pathlib.Path:
  """The path of the weights in a folder; if there are none, that of the preferred file."""
  paths = [pathlib.Path(folder, name) for name in WHOLE + INDEXES]
  return next((path for path in paths if path.is_file()), paths[0])


def read_weights(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The tensors of a weight file of either format, or of all those in an index.

  Raises:
    UserError: a file is missing or damaged, or lacks a tensor that the index says it has.
  """
  if path.suffix in _READERS:
    return _READERS[path.suffix](path)
  with files.reading(path):
    places = _places(path)
    shards = {name: read_weights(path.parent / name) for name in sorted(set(places.values()))}
    lost = next((name for name, shard in places.items() if name not in shards[shard]), None)
    if lost:
      raise UserError(f'{places[lost]} has no tensor {lost}')
    return {name: shards[shard][name] for name, shard in places.items()}


def _places(index: pathlib.Path) -> dict[str, str]:
  """{tensor: name of its file}, as an index says."""
  found = json.loads(index.read_text(encoding='utf-8'))['weight_map']
  for name in found.values():
    if pathlib.PurePath(name).suffix not in _READERS:
      raise UserError(f'it names the file {name}, which is none of weights')
  return found


def load(folder: str | os.PathLike[str], wanted: Tree, names_of: Callable[[Path], Sequence[str]],
         *, layout: str = 'torch') -> Tree:
  """The variables of the network in a folder.

  Args:
    wanted, names_of, layout: as of `convert.fill`.
  Raises:
    UserError: a file is missing or damaged, or a tensor is missing or has another shape or values
      that are not finite.
  """
  path = weights_file(folder)
  tensors = read_weights(path)
  try:
    return fill(wanted, tensors, names_of, layout=layout)
  except UserError as error:
    raise UserError(f'{path} does not match its config.json, or is damaged: {error}') from error


def sha256(folder: str | os.PathLike[str]) -> str:
  """The hash of the weights in a folder: of their file, or of the hashes of the files of an index.

  UserError if one is missing.
  """
  path = weights_file(folder)
  with files.reading(path):
    return file_sha256(path) if path.suffix in _READERS else json_sha256(
        [file_sha256(path.parent / name) for name in sorted(set(_places(path).values()))])


def write(folder: pathlib.Path, config: Mapping[str, object], tensors: Mapping[str, np.ndarray],
          tokenizer: str) -> None:
  """Writes `config.json`, `tokenizer.json` and `model.safetensors`.

  Each file appears when it is complete, the weights last. `folder` may be any path with pathlib's
  methods.
  """
  whole = {name: np.ascontiguousarray(x) for name, x in tensors.items()}   # or strides are lost
  for name, content in (('config.json', (json.dumps(config, indent=2) + '\n').encode()),
                        ('tokenizer.json', tokenizer.encode()),
                        ('model.safetensors', safetensors_numpy.save(whole))):
    atomic.save(folder / name, content)
