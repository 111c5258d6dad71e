"""A lock on a folder, so that two runs never write to the same one."""
from __future__ import annotations

import contextlib
import os
import pathlib
import platform
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from xmc_jax.types import UserError
from xmc_jax.utils import regular

NAME = '.lock'


@contextlib.contextmanager
def turn(path: Any, *, wait: Callable[[], None] = lambda: None,
         remove: bool = False) -> Iterator[None]:
  """Holds the lock file `path` while the block runs; waits while another process of the host does.

  Does nothing in buckets, and on systems and file systems without `flock`.

  Args:
    path: of the file, in a folder that exists; with `remove` it is made if necessary.
    wait: called before it waits.
    remove: whether to leave no file behind.
  """
  if '://' in str(path):
    yield
    return
  with contextlib.ExitStack() as stack:
    held = False
    while not held:      # again, if the one that held it has removed the file since, or the folder
      if remove:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
      file = stack.enter_context(open(path, 'a+', encoding='utf-8'))
      _lock(file, wait)
      held = not remove or _is_at(file, path)
    try:
      yield
    finally:
      if remove:
        pathlib.Path(path).unlink(missing_ok=True)


def _lock(file: TextIO, wait: Callable[[], None]) -> None:
  with contextlib.suppress(ImportError, OSError):
    import fcntl
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      wait()
      fcntl.flock(file, fcntl.LOCK_EX)


def _is_at(file: TextIO, path: Any) -> bool:
  """Whether an open file is still the one of this name."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
  except FileNotFoundError:
    return False


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
  """Holds `folder` while the block runs; UserError if another process holds it.

  The operating system releases the lock when the process ends, however it ends, so the file that is
  left behind does not matter. Folders in buckets and systems without `flock` are not locked.
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
    regular.check(pathlib.Path(folder, NAME))
    file = open(pathlib.Path(folder, NAME), 'a+', encoding='utf-8')
  except OSError as error:
    raise UserError(f'--workdir={folder}: cannot be written to ({error.strerror}); choose another '
                    'folder') from error
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      raise UserError(f'{folder} is in use by another training ({file.read().strip()}); stop that '
                      'one, or give another --workdir. Several tasks of one SLURM job need '
                      '--distributed') from None
    except OSError:      # a network file system without locks
      yield
      return
    file.truncate(0)
    file.write(f'process {os.getpid()} on {platform.node()}\n')
    file.flush()
    yield
