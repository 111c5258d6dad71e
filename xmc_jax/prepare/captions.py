"""Captions of original files: their white space, and whether a mirror image keeps them true."""
from __future__ import annotations

import re
from collections.abc import Iterable

_SIDES = re.compile(r'\b(left|right)(?!over)', re.IGNORECASE)


def clean(text: str) -> str:
  """The text on one line: every run of white space is one space, none around it."""
  return ' '.join(text.split())


def may_flip(captions: Iterable[str]) -> bool:
  """Whether captions stay true of the mirror image: none has a word that begins with left, right.

  The rule is ours; the papers mirror every image. It errs to one side: "a cake left on a table"
  is not mirrored either. Writing and clocks are mirrored, as in the papers, where captions of
  photographs rarely tell them.
  """
  return not any(_SIDES.search(caption) for caption in captions)
