"""Errors of files and disks: one sentence instead of a traceback."""
from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from xmc_jax.types import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)      # no space left; the user's quota is used up


@contextlib.contextmanager
def errors_told() -> Iterator[None]:
  """Turns errors that name a file, and that of a full disk, into a UserError; others pass."""
  try:
    yield
  except OSError as error:
    if error.errno in FULL:
      raise UserError(f'{error.filename or "the output"} cannot be written ({error.strerror}); '
                      'make room on that disk and run the same command again, which goes on from '
                      'what is complete') from error
    if error.errno is None or error.filename is None:
      raise
    raise UserError(f'{error.filename}: {error.strerror}; give another path, or change what is '
                    'there') from error
