"""Where frozen weights lie, and what all readers of their files share."""
from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import pathlib
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from safetensors import numpy as safetensors_numpy

from xmc_jax.types import Tree, UserError
from xmc_jax.utils import atomic


def package_file(package: str, relative: str, pip: str) -> pathlib.Path:
  """The path of something inside an installed package, found without importing the package.

  Args:
    package: name of a top-level package, as it is imported.
    relative: path of the file or folder inside the package.
    pip: the command that installs the package, for the error.
  Raises:
    UserError: the package, or the thing in it, is not there.
  """
  spec = importlib.util.find_spec(package)
  folders = list(spec.submodule_search_locations or ()) if spec else []
  for folder in folders:
    path = pathlib.Path(folder, relative)
    if path.exists():
      return path
  where = f'in {folders[0]}' if folders else 'in this Python environment'
  raise UserError(
    f'The weights {package}/{relative} were not found {where}; install them with: {pip}')


def folders() -> list[pathlib.Path]:
  """Where files of weights are looked for, in this order.

  They are the folder that XMC_JAX_WEIGHTS names, if it does, and `weights` in the folder of
  XMC_JAX_CACHE, by default ~/.cache/xmc_jax.
  """
  cache = os.environ.get('XMC_JAX_CACHE') or '~/.cache/xmc_jax'
  named = os.environ.get('XMC_JAX_WEIGHTS')
  places = [pathlib.Path(named)] if named else []
  return [path.expanduser().absolute() for path in [*places, pathlib.Path(cache, 'weights')]]


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
  """Turns whatever goes wrong inside into a `UserError` that names the file.

  Damaged files make their readers fail in any way, so every exception is taken.
  """
  try:
    yield
  except Exception as error:
    missing = isinstance(error, FileNotFoundError)
    why = 'there is no such file' if missing else str(error).strip().rstrip('.')
    raise UserError(
      f'The weights {path} cannot be read: {why or type(error).__name__}.') from error


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The tensors of a `.safetensors` file by their names.

  Raises:
    UserError: the file is missing or damaged.
  """
  with reading(path):
    return safetensors_numpy.load_file(path)


def write_folder(folder: pathlib.Path, config: Mapping[str, object],
                 tensors: Mapping[str, np.ndarray], tokenizer: str) -> None:
  """Writes `config.json`, `tokenizer.json` and `model.safetensors`, as Hugging Face names them.

  Each file gets its name when it is complete; the weights are the last. `folder` may be any kind of
  path that has pathlib's methods.
  """
  whole = {name: np.ascontiguousarray(x) for name, x in tensors.items()}   # or strides are lost
  for name, content in (('config.json', (json.dumps(config, indent=2) + '\n').encode()),
                        ('tokenizer.json', tokenizer.encode()),
                        ('model.safetensors', safetensors_numpy.save(whole))):
    atomic.save(folder / name, content)


def sha256(path: str | os.PathLike[str]) -> str:
  """The hash of a file as 64 hexadecimal digits, as `sha256sum` prints it."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def fingerprint(variables: Tree) -> str:
  """The sha256 of the numbers of a network, their names, shapes and dtypes.

  It is the same for every form of file that the numbers came from.
  """
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):    # in order of the names
    array = np.ascontiguousarray(leaf)
    digest.update(f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n'.encode())
    digest.update(array.reshape(-1).view(np.uint8))
  return digest.hexdigest()
