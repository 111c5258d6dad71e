"""A disk that is full: one sentence instead of a traceback."""
from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from xmc_jax.types import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)      # no space left; the user's quota is used up


@contextlib.contextmanager
def full_is_told() -> Iterator[None]:
  """Turns the error of a full disk into a UserError that names the file; others pass."""
  try:
    yield
  except OSError as error:
    if error.errno not in FULL:
      raise
    raise UserError(f'{error.filename or "the output"} cannot be written ({error.strerror}); make '
                    'room on that disk and run the same command again, which goes on from what is '
                    'complete') from error
