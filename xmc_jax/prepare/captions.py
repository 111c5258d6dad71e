"""Captions of original files: white space, and whether they stay true of the mirror image."""
from __future__ import annotations

import re
from collections.abc import Iterable

_SIDES = re.compile(r'\b(left|right)(?!over)', re.IGNORECASE)


def clean(text: str) -> str:
  """Replaces every run of white space by one space and strips both ends."""
  return ' '.join(text.split())


def may_flip(captions: Iterable[str]) -> bool:
  """Whether captions stay true of the mirror image: no word begins with "left" or "right".

  The rule is ours; the papers mirror every image. It is conservative: "a cake left on a table" is
  not mirrored either. Images of writing and clocks are mirrored, as in the papers, since captions
  of photographs rarely mention them.
  """
  return not any(_SIDES.search(caption) for caption in captions)
