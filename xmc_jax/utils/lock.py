"""A lock on a folder, so that two runs never write to the same one."""
from __future__ import annotations

import contextlib
import os
import pathlib
import platform
from collections.abc import Iterator
from typing import Any

from xmc_jax.types import UserError
from xmc_jax.utils import regular

NAME = '.lock'


@contextlib.contextmanager
def turn(path: Any) -> Iterator[None]:
  """Holds the lock file `path` while the block runs; waits while another process of the host does.

  Does nothing in buckets, and on systems and file systems without `flock`.
  """
  if '://' in str(path):
    yield
    return
  with open(path, 'a+', encoding='utf-8') as file:
    with contextlib.suppress(ImportError, OSError):
      import fcntl
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], *, flag: str = '--workdir', work: str = 'training',
           instead: str = 'give another --workdir. Several tasks of one SLURM job need '
                          '--distributed', name: str = NAME) -> Iterator[None]:
  """Holds `folder` while the block runs; UserError if another process holds it.

  The operating system releases the lock when the process ends, however it ends, so the file that is
  left behind does not matter. Folders in buckets and systems without `flock` are not locked.

  Args:
    folder: created if it does not exist.
    flag: for the error, what names the folder.
    work: for the error, what the other process does.
    instead: for the error, what else can be done.
    name: of the lock's file.
  """
  try:
    import fcntl
  except ImportError:      # Windows
    fcntl = None
  if fcntl is None or '://' in str(folder):
    yield
    return
  try:
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    regular.check(pathlib.Path(folder, name))
    file = open(pathlib.Path(folder, name), 'a+', encoding='utf-8')
  except OSError as error:
    raise UserError(f'{flag}={folder}: cannot be written to ({error.strerror}); choose another '
                    'folder') from error
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      raise UserError(f'{folder} is in use by another {work} ({file.read().strip()}); stop that '
                      f'one, or {instead}') from None
    except OSError:      # a network file system without locks
      yield
      return
    file.truncate(0)
    file.write(f'process {os.getpid()} on {platform.node()}\n')
    file.flush()
    yield
