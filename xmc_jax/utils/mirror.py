"""Copies of folders in a bucket, on the disk of this host.

Data sets and weights are read many times and in any order, which a bucket does slowly. So a folder
named by a URL, such as gs://BUCKET/data/coco2014-256, is copied once to `buckets` inside
XMC_JAX_CACHE (by default ~/.cache/xmc_jax) and is read from there.
"""
from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator
from typing import Any

from etils import epath

from xmc_jax.types import UserError
from xmc_jax.utils import atomic, lock, regular
from xmc_jax.utils.progress import Progress

_RECORD = '.copied.json'      # {file: [bytes, time of the last change]} of what was copied
_CONNECTIONS = 16
_BLOCK = 2 ** 24              # bytes


def is_remote(folder: str | os.PathLike[str]) -> bool:
  """Whether a folder is named by a URL such as gs://BUCKET/FOLDER."""
  return '://' in str(folder)


def cache_folder() -> pathlib.Path:
  """Where the program keeps what it can get again: XMC_JAX_CACHE, by default ~/.cache/xmc_jax."""
  return pathlib.Path(os.environ.get('XMC_JAX_CACHE') or '~/.cache/xmc_jax').expanduser().absolute()


def local(folder: str | os.PathLike[str], what: str) -> pathlib.Path:
  """Returns the folder itself, or where its copy is if it is in a bucket. Errors: of `copy`."""
  if not is_remote(folder):
    return pathlib.Path(folder).expanduser()
  scheme, rest = str(folder).split('://', 1)
  parts = [part for part in rest.split('/') if part]
  if not parts or '..' in parts:
    raise UserError(f'{what}={folder} names no folder of a bucket; give one such as '
                    'gs://BUCKET/FOLDER')
  target = cache_folder().joinpath('buckets', scheme, *parts)
  copy(folder, target, what)
  return target


def copy(folder: str | os.PathLike[str], target: pathlib.Path, what: str) -> int:
  """Copies all files below `folder` to `target`, and returns their number.

  What was copied before and has not changed since is left alone, so a copy that broke off goes on
  where it was; what is gone from `folder` is removed. A manifest.json is copied after all others,
  so that no unfinished copy is taken for a whole data set. Processes of one host take turns. If
  `target` is the folder itself, nothing is done.

  Args:
    folder: a folder, or the URL of one that `etils.epath` can open.
    target: a local folder, which is created.
    what: the flag or variable that names the folder, for error messages.

  Raises:
    UserError: there are no files in `folder`, or it cannot be read, or `target` not be written.
  """
  with _failures(folder, target, what):
    source = epath.Path(str(folder).rstrip('/'))
    found = dict(_files(source))
    if not found:
      raise UserError(f'{what}={folder}: there are no files in it; give a folder that exists and '
                      'that this host may read')
    if not is_remote(folder) and pathlib.Path(folder).resolve() == target.resolve():
      return len(found)
    target.mkdir(parents=True, exist_ok=True)
    with lock.turn(target / lock.NAME):
      for part in {pathlib.PurePath(name).parent for name in found}:
        atomic.remove_left(target / part)
      _update(source, found, target, f'{folder}, MB:')
  return len(found)


@contextlib.contextmanager
def _failures(folder: str | os.PathLike[str], target: pathlib.Path, what: str) -> Iterator[None]:
  try:
    yield
  except UserError:
    raise
  except Exception as error:      # every kind of bucket has its own
    raise UserError(f'{what}={folder}: cannot be copied to {target} ({first_line(error)}); the '
                    'same command goes on where it stopped') from error


def first_line(error: Exception) -> str:
  """What an error of a bucket's library says in its first line, or its name."""
  return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip('.')


def _files(folder: Any, below: str = '') -> Iterator[tuple[str, list[int]]]:
  """(path below the folder, [bytes, time of the last change]) of every file that is not hidden."""
  with concurrent.futures.ThreadPoolExecutor(_CONNECTIONS) as pool:
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith('.')] \
      if folder.is_dir() else []
    for entry, (is_folder, fact) in zip(entries, pool.map(_stat, entries)):
      name = f'{below}{entry.name}'
      if is_folder:
        yield from _files(entry, f'{name}/')
      else:
        yield name, fact


def _stat(path: Any) -> tuple[bool, list[int]]:
  if '://' not in str(path):
    return path.is_dir(), [int(x) for x in regular.size_and_time(path)]
  stat = path.stat()
  return stat.is_directory, [int(stat.length), int(stat.mtime or 0)]


def _update(source: Any, found: dict[str, list[int]], target: pathlib.Path, label: str) -> None:
  """Makes `target` hold the files `found` of `source`, and no others that were copied before."""
  record = target / _RECORD
  copied: dict[str, list[int]] = json.loads(record.read_text()) if record.is_file() else {}
  for name in copied.keys() - found.keys():
    (target / name).unlink(missing_ok=True)
  known = {name: fact for name, fact in copied.items() if found.get(name) == fact
           and (target / name).is_file() and (target / name).stat().st_size == fact[0]}
  missing = sorted(found.keys() - known.keys())
  if not missing:
    return
  manifests = [name for name in missing if name == 'manifest.json']
  for name in manifests:
    (target / name).unlink(missing_ok=True)
  progress = Progress(label, sum(found[name][0] for name in missing) // 10 ** 6)
  progress.reach(0)
  done, guard = 0, threading.Lock()

  def fetch(name: str) -> None:
    nonlocal done
    with atomic.whole(target / name) as unfinished:
      with (source / name).open('rb') as data, open(unfinished, 'wb') as out:
        shutil.copyfileobj(data, out, _BLOCK)
      size = unfinished.stat().st_size
      if size != found[name][0]:
        raise OSError(f'{name} has {size:,} bytes in place of {found[name][0]:,}')
    with guard:
      done += size
      known[name] = found[name]
      atomic.save(record, json.dumps(known))
      progress.reach(done // 10 ** 6)

  with concurrent.futures.ThreadPoolExecutor(_CONNECTIONS) as pool:
    list(pool.map(fetch, [name for name in missing if name not in manifests]))
  for name in manifests:
    fetch(name)
