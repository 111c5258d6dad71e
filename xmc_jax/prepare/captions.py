"""Captions of original files: cleaning, and whether they stay true of the mirror image."""
from __future__ import annotations

import html
import re
from collections.abc import Iterable

_ENTITY = re.compile(r'&(#\d+|#x[0-9a-f]+|[a-z]+\d*);', re.IGNORECASE)
# And halves of surrogate pairs, and the space without a width.
_CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff\u200b]')
# Soft hyphens, marks of direction, word joiners, byte order marks; not the joiner inside emoji.
_INVISIBLE = re.compile(r'[\xad\u061c\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]')
_SIDES = re.compile(r'\b(left|right)(?!over)', re.IGNORECASE)


def clean(text: str) -> str:
  """Resolves HTML entities, also escaped twice; makes of white space and control signs one space.

  Signs that nobody sees and that part no words are left out. CLIP's cleaning does the same with
  entities. An entity needs its semicolon: "R&D" stays.
  """
  for _ in range(2):
    text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
  return ' '.join(_INVISIBLE.sub('', _CONTROL.sub(' ', text)).split())


def loses_words(caption: str) -> bool:
  """Whether a vocabulary of words drops a whole word, or has none of the caption.

  It drops words without any ASCII letter or digit, and all signs: a caption of emoji is empty.
  """
  words = re.findall(r'\w+', caption)
  return not words or not caption.isascii() and any(
      not word.encode('ascii', 'ignore') for word in words)


def may_flip(captions: Iterable[str]) -> bool:
  """Whether captions stay true of the mirror image: no word begins with "left" or "right".

  The rule is ours; the papers mirror every image. It is conservative: "a cake left on a table" is
  not mirrored either. Images of writing and clocks are mirrored, as in the papers, since captions
  of photographs rarely mention them.
  """
  return not any(_SIDES.search(caption) for caption in captions)
