"""Files and folders that are whole or absent after a kill, and on the disk after a power cut."""
from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import platform
import re
import shutil
from collections.abc import Collection, Iterator
from typing import Any

from xmc_jax.types import UserError
from xmc_jax.utils import regular

UNFINISHED = '.partial'      # suffix of the files that a killed process leaves behind
_OF_OTHERS = {'.DS_Store', '.gitattributes'}      # the Finder's and the Hugging Face Hub's
_OLD = '.old'                # and of a folder that is being replaced


@contextlib.contextmanager
def whole(path: Any) -> Iterator[Any]:
  """Yields a temporary path to write to; it becomes `path` if the block ends without an error.

  The file is flushed to the disk before it is renamed and its folder after that, so a power cut
  leaves the old file or the new one. After an error the temporary file is removed and the old file
  stays. The folder is created. Several processes may write the same file at once; one of them wins.

  Args:
    path: any kind of path with pathlib's methods. Only local paths are flushed.

  Raises OSError if the folder cannot be created, the file cannot be renamed, or `path` is a device
  or a pipe.
  """
  if '://' not in str(path):
    regular.check(path)
    if os.path.islink(path):      # what it leads to is replaced, not the link
      path = type(path)(os.path.realpath(path))
  path.parent.mkdir(parents=True, exist_ok=True)
  unfinished = path.parent / _beside(path.name, UNFINISHED)
  try:
    yield unfinished
    sync(unfinished)
    if path.is_dir():      # epath would say so without the number of the error
      raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    unfinished.replace(path)
    sync(path.parent)
  except BaseException as error:
    if isinstance(error, OSError) and error.errno:      # without a number it would lose its words
      error.filename = error.filename or str(path)      # a failed write does not name its file
    with contextlib.suppress(OSError):      # the first error says more
      unfinished.unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def whole_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields the path of a temporary folder; it takes the place of `folder` if the block succeeds.

  After an error the temporary folder is removed and the old one stays. If a kill came between the
  two renames, the next call puts the old one back.

  Args:
    folder: a local path, neither a link nor a mount point.

  Raises OSError if the folder cannot be renamed, or another process replaces it at the same time.
  """
  unfinished, old = (folder.with_name(_beside(folder.name, end)) for end in (UNFINISHED, _OLD))
  for left in _left(folder.parent, folder.name, _OLD):
    if folder.exists():
      shutil.rmtree(left, ignore_errors=True)
    else:
      left.rename(folder)
  for left in _left(folder.parent, folder.name, UNFINISHED):
    shutil.rmtree(left, ignore_errors=True)
  try:
    yield unfinished
    sync_tree(unfinished)
    try:
      if folder.exists():
        folder.rename(old)
      unfinished.rename(folder)
    except BaseException:
      if old.exists() and not folder.exists():
        old.rename(folder)
      raise
    sync(folder.parent)
  finally:
    shutil.rmtree(unfinished, ignore_errors=True)
    if folder.exists():
      shutil.rmtree(old, ignore_errors=True)


def check_replaceable(folder: pathlib.Path, own: Collection[str], mark: str, what: str) -> None:
  """UserError unless `whole_folder` would destroy nothing: `folder` is missing or empty, or has the
  file `mark` of `what` and no other names than `own`."""
  if folder.is_mount():
    raise UserError(f'{folder}: is a mount point; give another folder')
  if not folder.exists():
    return
  names = sorted({path.name for path in folder.iterdir()} - _OF_OTHERS) if folder.is_dir() else []
  if not folder.is_dir() or names and not (folder / mark).is_file():
    raise UserError(f'{folder}: exists and is not {what}; give another folder')
  if strangers := [name for name in names if name not in own]:
    raise UserError(f'{folder}: would be replaced, and holds {strangers[0]}, which is no part of '
                    f'{what}; move it away, or give another folder')


def remove_left(folder: pathlib.Path) -> None:
  """Removes the unfinished files that killed processes of this host left in a local folder."""
  for path in _left(folder, '*', UNFINISHED):
    path.unlink(missing_ok=True)


def _beside(name: str, suffix: str) -> str:
  """The name that a file or folder has beside its place, different for every process."""
  return f'.{name}.{platform.node()}-{os.getpid()}{suffix}'


def _left(folder: pathlib.Path, name: str, suffix: str) -> Iterator[pathlib.Path]:
  """What `_beside` named for processes of this host that are gone, or for this one."""
  node = platform.node()
  pattern = re.compile(rf'\.(?P<name>.*)\.{re.escape(node)}-(?P<pid>\d+){re.escape(suffix)}')
  for path in sorted(folder.iterdir()) if folder.is_dir() else ():
    found = pattern.fullmatch(path.name)
    if found and name in ('*', found['name']) and not _runs(int(found['pid'])):
      yield path


def _runs(pid: int) -> bool:
  """Whether another process with this number runs here."""
  if pid == os.getpid():
    return False
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except OSError:      # it belongs to someone else
    return True
  return True


def save(path: Any, content: bytes | str) -> None:
  """Writes a file, text as UTF-8, all of it or nothing; path and errors as in `whole`."""
  with whole(path) as unfinished:
    unfinished.write_bytes(content.encode() if isinstance(content, str) else content)


def sync(path: Any) -> None:
  """Flushes a local file or folder to the disk; paths of buckets are left alone."""
  if '://' in str(path):
    return
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  except OSError:      # some network and FUSE file systems cannot flush folders
    if not os.path.isdir(path):
      raise
  finally:
    os.close(descriptor)


def sync_tree(folder: Any) -> None:
  """Flushes all files and folders below a local `folder`, and the folder itself."""
  for parent, _, files in os.walk(folder, topdown=False):
    for name in files:
      sync(pathlib.Path(parent, name))
    sync(parent)
