"""Where frozen weights are stored, and helpers that all readers of weight files share."""
from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import pathlib
from collections.abc import Iterator

import jax
import numpy as np
from safetensors import numpy as safetensors_numpy

from xmc_jax.types import Tree, UserError
from xmc_jax.utils import mirror, regular
from xmc_jax.weight_files import int8


def package_file(package: str, relative: str, pip: str) -> pathlib.Path:
  """The path of a file in an installed package, found without importing the package.

  Args:
    package: import name of a top-level package.
    relative: path of a file or folder inside the package.
    pip: the command that installs the package, for the error message.
  Raises:
    UserError: the package or the file in it does not exist.
  """
  spec = importlib.util.find_spec(package)
  folders = list(spec.submodule_search_locations or ()) if spec else []
  for folder in folders:
    path = pathlib.Path(folder, relative)
    if path.exists():
      return path
  where = f'in {folders[0]}' if folders else 'in this Python environment'
  raise UserError(
    f'the weights {package}/{relative} were not found {where}; install them with: {pip}')


def folders() -> list[pathlib.Path]:
  """The folders that are searched for weight files, in this order.

  XMC_JAX_WEIGHTS, if it is set; then `weights` inside XMC_JAX_CACHE, by default ~/.cache/xmc_jax.
  If XMC_JAX_WEIGHTS is in a bucket, it is copied to this host when a process first asks.
  """
  named, cached = os.environ.get('XMC_JAX_WEIGHTS'), mirror.cache_folder() / 'weights'
  if not named:
    return [cached]
  if mirror.is_remote(named):
    return [_copied(named, cached.parent), cached]
  return [pathlib.Path(named).expanduser().absolute(), cached]


@functools.lru_cache
def _copied(named: str, cache: pathlib.Path) -> pathlib.Path:
  return mirror.local(named, 'XMC_JAX_WEIGHTS')


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
  """Turns any exception inside into a `UserError` that names the file.

  Every exception is caught, because a damaged file can make its reader fail in any way.
  """
  refuse_pointer(path)
  try:
    regular.check(path)
    yield
  except Exception as error:
    missing = isinstance(error, FileNotFoundError)
    why = 'there is no such file' if missing else str(error).strip().rstrip('.')
    raise UserError(
      f'the file {path} cannot be read: {why or type(error).__name__}') from error


def refuse_pointer(path: str | os.PathLike[str]) -> None:
  """UserError if a file is the pointer that git leaves where git-lfs did not fetch the content."""
  if not pathlib.Path(path).is_file():
    return
  with contextlib.suppress(OSError), open(path, 'rb') as file:
    if file.read(len(regular.POINTER)) == regular.POINTER:
      raise UserError(f'{path} {regular.POINTED}')


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The tensors of a `.safetensors` file by name; UserError if it is missing or damaged.

  Weights of eight bits, as `int8.pack` writes them, are float32.
  """
  with reading(path):
    try:
      tensors = safetensors_numpy.load_file(path)
    except AttributeError as error:      # a dtype that numpy does not have
      raise UserError('it has numbers of a type that is not read here, such as 8-bit floats; '
                      f'convert them to bfloat16 ({error})') from error
    return int8.unpack(tensors)


def fingerprint(variables: Tree) -> str:
  """The sha256 of the names, shapes, dtypes and values of a network's variables.

  Unlike the hash of a file, it does not depend on the file format.
  """
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):    # sorted by name
    array = np.ascontiguousarray(leaf)
    digest.update(f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n'.encode())
    digest.update(array.reshape(-1).view(np.uint8))
  return digest.hexdigest()
