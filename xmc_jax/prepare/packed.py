"""Compact lists of lists: half a million rows in a few objects, small and quick to pickle."""
from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


class Numbers:
  """Lists of integers: `numbers[row]` is a list."""

  def __init__(self, rows: Iterable[Sequence[int]]):
    rows = [np.array(row, np.int64) for row in rows]
    self._values = np.concatenate([np.zeros(0, np.int64), *rows])
    self._lasts = np.cumsum([0, *map(len, rows)])

  def __getitem__(self, row: int) -> list[int]:
    return self._values[self._lasts[row]:self._lasts[row + 1]].tolist()


class Texts:
  """Lists of strings: `texts[row]` is a tuple."""

  def __init__(self, rows: Iterable[Sequence[str]]):
    texts, ends, lasts = [], [0], [0]
    for row in rows:
      for text in row:
        texts.append(text.encode())
        ends.append(ends[-1] + len(texts[-1]))
      lasts.append(len(texts))
    self._bytes, self._ends, self._lasts = b''.join(texts), np.array(ends), np.array(lasts)

  def __len__(self) -> int:
    return len(self._lasts) - 1

  def __getitem__(self, row: int) -> tuple[str, ...]:
    ends = self._ends[self._lasts[row]:self._lasts[row + 1] + 1].tolist()
    return tuple(self._bytes[a:b].decode() for a, b in zip(ends, ends[1:]))
