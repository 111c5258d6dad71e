"""Files that have an end: reading a pipe or a device may never return."""
from __future__ import annotations

import errno
import os
import pathlib
from typing import Any

from etils import epath

# What git leaves where git-lfs did not fetch the content begins so; and what to say of it.
POINTER = b'version https://git-lfs'
POINTED = ('is not the file itself but a pointer of git-lfs to it; run `git lfs pull` in its '
           'folder, or download the file')


def check(path: str | os.PathLike[str]) -> None:
  """Raises OSError, which names the file, if it is a pipe, a socket or a device."""
  path = pathlib.Path(path)
  if path.exists() and not path.is_file() and not path.is_dir():
    raise OSError(errno.EINVAL, 'it is a pipe or a device and no file', str(path))


def size_and_time(path: Any) -> tuple[int, float]:
  """Bytes of a file, and when it changed in seconds since the epoch; `path` may be in a bucket.

  epath also asks for the name of the owner, whom a container or another machine may not know.
  """
  if '://' in str(path):
    found = epath.Path(path).stat()
    return int(found.length), float(found.mtime or 0)
  found = os.stat(path)
  return found.st_size, found.st_mtime


def read(path: str | os.PathLike[str]) -> bytes:
  """The bytes of a file; OSError as by `check`, or as usual."""
  check(path)
  return pathlib.Path(path).read_bytes()
