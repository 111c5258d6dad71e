"""Reading UTF-8 text files line by line.

Lines end at "\\n", "\\r\\n" or "\\r" and nowhere else: a caption may contain U+2028, U+0085 or a
form feed, at which `str.splitlines` would cut it in two. A byte order mark at the start of the file
is removed. Lines of white space alone are skipped, but they count in line numbers.
"""
from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator

from xmc_jax.types import UserError
from xmc_jax.utils import regular


def read_text(path: str | os.PathLike[str], flag: str = '') -> str:
  """Returns the text of a file, without its byte order mark.

  Args:
    path: of the file.
    flag: the command-line flag that named the file, such as "--captions"; starts error messages.

  Raises UserError if the file cannot be read, or is not UTF-8; names the line and the byte.
  """
  where = f'{flag}: {path}' if flag else str(path)
  try:
    # A flag may name a pipe, such as one of the shell's <(...).
    data = pathlib.Path(path).read_bytes() if flag else regular.read(path)
    text = data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    # 'utf-8-sig' counts positions after the byte order mark.
    start = error.start + len(data) - len(error.object)
    line = len(re.split(rb'\r\n|\r|\n', data[:start]))
    raise UserError(f'{where}, line {line}: byte {data[start]:#04x} is not UTF-8; save the file '
                    'with the encoding UTF-8') from error
  except OSError as error:
    raise UserError(f'{where}: cannot be read ({error.strerror}); check the path and its '
                    'permissions') from error
  if data.startswith(regular.POINTER):      # its three lines would pass for captions
    raise UserError(f'{where} {regular.POINTED}')
  return text


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
  """Yields (line number from 1, line without its end) of every line that is not blank."""
  for number, line in enumerate(re.split('\r\n|\r|\n', text), 1):
    if line.strip():
      yield number, line


def read_lines(path: str | os.PathLike[str], flag: str = '') -> list[str]:
  """Returns the lines of a file that are not blank, without white space at either end.

  Arguments and errors are those of `read_text`.
  """
  return [line.strip() for _, line in numbered_lines(read_text(path, flag))]
