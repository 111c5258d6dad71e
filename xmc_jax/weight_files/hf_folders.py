"""Folders of weights in Hugging Face's layout: config.json, the weights, and a tokenizer."""
from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from safetensors import numpy as safetensors_numpy

from xmc_jax.utils import atomic
from xmc_jax.weight_files import files, torch_files

# The weight files and their readers; the first file that exists is used.
READERS = {'model.safetensors': files.read_safetensors, 'pytorch_model.bin': torch_files.read}
WEIGHTS = ' or '.join(READERS)


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
  paths = [pathlib.Path(folder, name) for name in READERS]
  return next((path for path in paths if path.is_file()), paths[0])


def read_weights(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The tensors of a weight file of either format; UserError if it is missing or damaged."""
  return READERS[path.name](path)


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
