"""Files of JSON objects, one a line, that grow while a run goes on.

A kill or a full disk may leave half a line at the end. Readers ignore it, and writers drop it
before they append, or the next line would be glued to it. A last line that only lacks its end, as
some editors leave it, is a line like others.
"""
from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from etils import epath

from xmc_jax.types import UserError
from xmc_jax.utils import atomic, regular


def read(path: Any, check: Callable[[dict[str, Any]], None] = lambda line: None
         ) -> list[dict[str, Any]]:
  """The objects of all whole lines; [] if there is no such file.

  Args:
    path: of the file.
    check: raises ValueError for an object that is not as it should be.
  Raises:
    UserError: the file cannot be read, or a line is not such an object; names the line.
  """
  if not path.exists():
    return []
  number, found = 0, []
  try:
    regular.check(path)
    for line in _lines(path)[0]:
      number += 1
      if line.strip():
        found.append(json.loads(line))
        if not isinstance(found[-1], dict):
          raise ValueError('it is not an object')
        check(found[-1])
  except OSError as error:
    raise UserError(f'{path}: cannot be read ({error.strerror or error}); remove what is there, or '
                    'change its permissions') from error
  except (ValueError, RecursionError) as error:
    raise UserError(f'{path}, line {number}: is not the JSON that it should be ({error}); fix or '
                    'remove it') from error
  return found


def keep(path: Any, wanted: Callable[[bytes], bool] = lambda line: True) -> None:
  """Drops the lines that are not `wanted`, and half a line at the end. OSError if that fails."""
  if not path.exists():
    return
  regular.check(path)
  lines, ended = _lines(path)
  kept = [line for line in lines if wanted(line)]
  if kept != lines or not ended:
    atomic.save(path, b''.join(line + b'\n' for line in kept))


def _lines(path: Any) -> tuple[list[bytes], bool]:
  """The whole lines of a file, and whether it ends with the end of one."""
  *lines, last = path.read_bytes().split(b'\n')
  with contextlib.suppress(ValueError, RecursionError):
    if isinstance(json.loads(last), dict):      # half of an object is none
      lines.append(last)
  return lines, not last


def append(path: Any, lines: Iterable[Mapping[str, Any]]) -> None:
  """Appends to a file without half a line and flushes it; on OSError no line is added."""
  path = epath.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  regular.check(path)
  size = regular.size_and_time(path)[0] if path.exists() else 0
  try:
    with path.open('a') as file:
      # A number of numpy's is written as one of Python's.
      file.write(''.join(json.dumps(line, default=lambda x: x.item()) + '\n' for line in lines))
    atomic.sync(path)
  except OSError as error:
    error.filename = str(path)
    with contextlib.suppress(OSError):      # the first error says more
      os.truncate(path, size)
    raise
