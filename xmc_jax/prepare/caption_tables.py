"""Captions of one's own images in one file: a table, lines of JSON, or Flickr's token files.

  .csv, .tsv   a first line with the names of the columns, then one line a caption
  .jsonl       one object a line, with the names of the columns as keys
  .token       Flickr8k's and Flickr30k's lines, "1000268201.jpg#0", a tabulator and the caption;
               also .token.txt

Columns: the image's file; its caption; if wanted `label` (one class), or `labels` (any number,
in .csv and .tsv with a semicolon between them) and `split`. Others are ignored. Lines of the same
image add captions to it. All files are UTF-8.
"""
from __future__ import annotations

import csv
import dataclasses
import io
import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from xmc_jax.prepare.captions import clean
from xmc_jax.types import UserError

FILE = ('file', 'file_name', 'filename', 'path', 'image')
CAPTION = ('caption', 'captions', 'text')
KINDS = ('.csv', '.tsv', '.jsonl', '.token', '.token.txt')


@dataclasses.dataclass(frozen=True)
class Line:
  """What one line says.

  where     the file and the number of the line, for messages
  file      of the image, as it is written there
  captions  clean, without those that have no word
  empty     the number of those
  label     its only class, or None
  labels    its classes, where it can have several, or None
  split     as it is written there, or None
  """
  where: str
  file: str
  captions: tuple[str, ...]
  empty: int
  label: str | None
  labels: tuple[str, ...] | None
  split: str | None


def read(path: pathlib.Path) -> Iterator[Line]:
  """The lines of a file of any of the kinds.

  Raises:
    UserError: if it is of another kind, cannot be read, or a line does not say what it should.
  """
  for kind, cells in (('.csv', _csv), ('.tsv', _tsv), ('.jsonl', _jsonl),
                      (('.token', '.token.txt'), _token)):
    if path.name.lower().endswith(kind):
      for where, row in cells(path, read_text(path)):
        yield _line(where, {str(key).strip().lower(): value for key, value in row.items()})
      return
  raise UserError(f'{path} is of no kind that can be read, which are {", ".join(KINDS)}; save it '
                  'as one of these.')


def read_text(path: pathlib.Path) -> str:
  """The text of a file.

  Raises:
    UserError: if it is not there, or not UTF-8.
  """
  try:
    return path.read_bytes().decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise UserError(f'{path} is not UTF-8 (byte {error.object[error.start]:#04x} at place '
                    f'{error.start:,}); save it again with the encoding UTF-8.') from error
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}).') from error


def _csv(path: pathlib.Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
  reader = csv.reader(io.StringIO(text, newline=''), strict=True)
  try:
    yield from _rows(path, ((reader.line_num, cells) for cells in reader),
                     'put a caption that has a comma in it in double quotes')
  except csv.Error as error:
    raise UserError(f'{path}, line {reader.line_num}: {error}; a caption with quotes is written '
                    '"like ""this"" one".') from error


def _tsv(path: pathlib.Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
  lines = ((number, [_unquoted(cell) for cell in line.split('\t')])
           for number, line in enumerate(_lines(text), 1) if line.strip())
  return _rows(path, lines, 'exactly one tabulator stands between two cells')


def _rows(path: pathlib.Path, lines: Iterator[tuple[int, list[str]]],
          advice: str) -> Iterator[tuple[str, dict[str, str]]]:
  """Cells by the names of their columns, which the first line has."""
  header = None
  for number, cells in lines:
    if header is None:
      header = cells or None
    elif cells and len(cells) != len(header):
      raise UserError(
        f'{path}, line {number} has {len(cells)} cells and the first line has {len(header)} '
        f'({"; ".join(header)}); {advice}.')
    elif cells:
      yield f'{path}, line {number}', dict(zip(header, cells, strict=True))


def _jsonl(path: pathlib.Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
  for number, line in enumerate(_lines(text), 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
    except ValueError as error:
      raise UserError(f'{path}, line {number} is not JSON ({error}); a .jsonl file has one object '
                      'on every line.') from error
    if not isinstance(row, dict):
      raise UserError(f'{path}, line {number} is not an object; write it as '
                      '{"file": "a.jpg", "caption": "what it shows"}.')
    yield f'{path}, line {number}', row


def _token(path: pathlib.Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
  for number, line in enumerate(_lines(text), 1):
    if not line.strip():
      continue
    found = re.fullmatch(r'([^\t]+)#\d+\t(.*)', line)
    if not found:
      raise UserError(f'{path}, line {number} is not as in a token file: NAME.jpg#0, a tabulator, '
                      'the caption.')
    yield f'{path}, line {number}', {'file': found[1], 'caption': found[2]}


def _lines(text: str) -> list[str]:
  return [line.removesuffix('\r') for line in text.split('\n')]


def _unquoted(cell: str) -> str:
  """A cell as it was before a spreadsheet put it in quotes; quotes inside a cell are just text."""
  found = re.fullmatch(r'"((?:[^"]|"")*)"', cell)
  return found[1].replace('""', '"') if found else cell


def _line(where: str, row: Mapping[str, Any]) -> Line:
  file = _text(where, 'file', _needed(where, row, FILE, 'the file of the image'))
  if not file:
    raise UserError(f'{where} names no image.')
  texts = _needed(where, row, CAPTION, 'the caption')
  texts = texts if isinstance(texts, list) else [texts]
  captions = [_text(where, 'caption', text) for text in texts]
  labels = row.get('labels')
  if isinstance(labels, str):
    labels = [label for label in labels.split(';') if label.strip()]
  if labels is not None and not isinstance(labels, list):
    raise UserError(f'{where} has the labels {labels!r}; write a list of names.')
  split = _text(where, 'split', row.get('split'))
  return Line(where, file, tuple(filter(None, captions)), captions.count(''),
              _text(where, 'label', row.get('label')) or None,
              None if labels is None else tuple(_text(where, 'label', one) for one in labels),
              split or None)


def _needed(where: str, row: Mapping[str, Any], names: tuple[str, ...], what: str) -> Any:
  for name in names:
    if name in row:
      return row[name]
  raise UserError(f'{where} has no column for {what}: call it {names[0]} (or '
                  f'{", ".join(names[1:])}); its columns are {", ".join(row) or "none"}.')


def _text(where: str, what: str, value: Any) -> str:
  """A cell on one line; numbers are text too, nothing is an empty text."""
  if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
    raise UserError(f'{where} has the {what} {value!r}, which is not text.')
  text = '' if value is None else str(value)
  return (clean(text) if what == 'caption' else text.strip()).encode('utf-8', 'ignore').decode()
