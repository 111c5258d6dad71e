"""Captions of original files: white space, whether a mirror image keeps them true, storage."""
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

_SIDES = re.compile(r'\b(left|right)(?!over)', re.IGNORECASE)


def clean(text: str) -> str:
  """The text on one line: every run of white space is one space, none around it."""
  return ' '.join(text.split())


def may_flip(captions: Iterable[str]) -> bool:
  """Whether captions stay true of the mirror image: none has a word that begins with left, right.

  The rule is ours; the papers mirror every picture. It errs to one side: "a cake left on a table"
  is not mirrored either. Writing and clocks are mirrored, as in the papers, where captions of
  photographs rarely tell them.
  """
  return not any(_SIDES.search(caption) for caption in captions)


class Lists:
  """Lists of texts by row, packed: half a million are three objects, cheap to pickle."""

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
