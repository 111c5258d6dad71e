"""Files that get their names when they are whole, so that a kill leaves no half of one."""
from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from typing import Any

UNFINISHED = '.partial'      # how the names end of files that a killed process left


@contextlib.contextmanager
def whole(path: Any) -> Iterator[Any]:
  """Gives a path to write to; what is there becomes `path` when the block ends without an error.

  After an error it is removed, and a file that was `path` before stays as it was. The folder is
  made. No other process is given the same path, so that several may write one file.

  Args:
    path: any kind of path that has pathlib's methods.

  Raises:
    OSError: the folder cannot be made, or the file not be named.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  unfinished = path.parent / f'.{path.name}.{platform.node()}-{os.getpid()}{UNFINISHED}'
  try:
    yield unfinished
    unfinished.replace(path)
  except BaseException:
    with contextlib.suppress(OSError):      # the first error says more
      unfinished.unlink(missing_ok=True)
    raise


def save(path: Any, content: bytes | str) -> None:
  """Writes a file, text as UTF-8, whole or not at all; path and errors as those of `whole`."""
  with whole(path) as unfinished:
    unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
