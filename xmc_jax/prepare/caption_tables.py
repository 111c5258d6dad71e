"""Captions of your own images in one file: a table, JSON lines, or Flickr's token files.

  .csv, .tsv   a first line with the names of the columns, then one line per caption; the cells of
               a .csv are separated by commas, semicolons or tabs, as its first line is
  .jsonl       one object per line, with the names of the columns as keys
  .token       lines of Flickr8k and Flickr30k: "1000268201.jpg#0", a tab and the caption;
               also .token.txt

Columns: the image's file; its caption; optionally `label` (one class) or `labels` (any number;
separated by semicolons in .csv and .tsv) and `split`. Other columns are ignored. Several lines of
the same image add captions to it. Files are UTF-8 and are read as in `xmc_jax.utils.text_lines`.
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
from xmc_jax.utils.text_lines import numbered_lines, read_text

FILE = ('file', 'file_name', 'filename', 'filepath', 'path', 'image')
CAPTION = ('caption', 'captions', 'text', 'title')
_SEPARATORS = {',': 'comma', ';': 'semicolon', '\t': 'tab'}
KINDS = ('.csv', '.tsv', '.jsonl', '.token', '.token.txt')


@dataclasses.dataclass(frozen=True)
class CaptionRow:
  """One line of a table.

  Attributes:
    where: the file and the line number, for messages.
    file: the image's path, as written there.
    captions: with normalized white space, without empty ones.
    empty: number of empty captions.
    label: the only class of the image, or None.
    labels: the classes of the image, if it can have several, or None.
    split: as written there, or None.
  """
  where: str
  file: str
  captions: tuple[str, ...]
  empty: int
  label: str | None
  labels: tuple[str, ...] | None
  split: str | None


def read(path: pathlib.Path) -> Iterator[CaptionRow]:
  """Yields the lines of a file of one of `KINDS`.

  Raises:
    UserError: the file is of another kind or cannot be read, or a line lacks something.
  """
  for kind, cells in (('.csv', _csv), ('.tsv', _tsv), ('.jsonl', _jsonl),
                      (('.token', '.token.txt'), _token)):
    if path.name.lower().endswith(kind):
      for where, row in cells(path, read_text(path)):
        yield _line(where, {str(key).strip().lower(): value for key, value in row.items()})
      return
  raise UserError(f'{path} is of an unknown kind; save it as one of {", ".join(KINDS)}')


def _csv(path: pathlib.Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
  first = next((line for _, line in numbered_lines(text)), '')
  separator = max(_SEPARATORS, key=first.count)        # the comma, if none of them occurs
  reader = csv.reader(io.StringIO(text, newline=''), delimiter=separator, strict=True)
  try:
    yield from _rows(path, ((reader.line_num, cells if any(map(str.strip, cells)) or cells[1:] else
                             []) for cells in reader),
                     f'put a caption that contains a {_SEPARATORS[separator]} in double quotes')
  except csv.Error as error:
    raise UserError(f'{path}, line {reader.line_num}: {error}; write a caption with quotes '
                    '"like ""this"" one"') from error


def _tsv(path: pathlib.Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
  lines = ((number, [_unquoted(cell) for cell in line.split('\t')])
           for number, line in numbered_lines(text))
  return _rows(path, lines, 'put exactly one tab between two cells')


def _rows(path: pathlib.Path, lines: Iterator[tuple[int, list[str]]],
          advice: str) -> Iterator[tuple[str, dict[str, str]]]:
  """Yields (place, {column: cell}) of every line after the first, which names the columns."""
  header = None
  for number, cells in lines:
    if header is None:
      header = cells or None
      named = [cell.strip().lower() for cell in cells if cell.strip()]
      if twice := next((name for name in named if named.count(name) > 1), None):
        raise UserError(f'{path}: two columns are named {twice!r}; give each caption of an image a '
                        'line of its own, and each column another name')
    elif cells and len(cells) != len(header):
      raise UserError(
        f'{path}, line {number} has {len(cells)} cells and the first line has {len(header)} '
        f'({"; ".join(header)}); {advice}')
    elif cells:
      yield f'{path}, line {number}', dict(zip(header, cells, strict=True))


def _jsonl(path: pathlib.Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
  for number, line in numbered_lines(text):
    try:
      row = json.loads(line)
    except (ValueError, RecursionError) as error:
      raise UserError(f'{path}, line {number} is not JSON ({error}); write one object on '
                      'every line') from error
    if not isinstance(row, dict):
      raise UserError(f'{path}, line {number} is not an object; write it as '
                      '{"file": "a.jpg", "caption": "what it shows"}')
    yield f'{path}, line {number}', row


def _token(path: pathlib.Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
  for number, line in numbered_lines(text):
    found = re.fullmatch(r'([^\t]+)#\d+\t(.*)', line)
    if not found:
      raise UserError(f'{path}, line {number} is not a line of a token file; write NAME.jpg#0, a '
                      'tab, the caption')
    yield f'{path}, line {number}', {'file': found[1], 'caption': found[2]}


def _unquoted(cell: str) -> str:
  """Removes the quotes that a spreadsheet put around a cell; other quotes are text."""
  found = re.fullmatch(r'"((?:[^"]|"")*)"', cell)
  return found[1].replace('""', '"') if found else cell


def _line(where: str, row: Mapping[str, Any]) -> CaptionRow:
  file = _text(where, 'file', _needed(where, row, FILE, 'the file of the image'))
  if not file:
    raise UserError(f'{where} names no image; fill in the file')
  texts = _needed(where, row, CAPTION, 'the caption')
  texts = texts if isinstance(texts, list) else [texts]
  captions = [_text(where, 'caption', text) for text in texts]
  labels = row.get('labels')
  if isinstance(labels, str):
    labels = [label for label in labels.split(';') if label.strip()] or None
  if isinstance(labels, list):
    labels = [label for label in labels if label != ''] or None
  elif labels is not None:
    raise UserError(f'{where} has the labels {labels!r}; write a list of names')
  split = _text(where, 'split', row.get('split'))
  return CaptionRow(where, file, tuple(filter(None, captions)), captions.count(''),
              _text(where, 'label', row.get('label')) or None,
              None if labels is None else tuple(_text(where, 'label', one) for one in labels),
              split or None)


def _needed(where: str, row: Mapping[str, Any], names: tuple[str, ...], what: str) -> Any:
  for name in names:
    if name in row:
      return row[name]
  raise UserError(f'{where} has no column for {what}: call it {names[0]} (or '
                  f'{", ".join(names[1:])}); its columns are {", ".join(row) or "none"}')


def _text(where: str, what: str, value: Any) -> str:
  """Returns a cell as text on one line: numbers are converted, None becomes the empty string."""
  if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
    raise UserError(f'{where} has the {what} {value!r}, which is not text; write it in quotes')
  text = '' if value is None else str(value)
  return (clean(text) if what == 'caption' else text.strip()).encode('utf-8', 'ignore').decode()
