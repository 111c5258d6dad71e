"""The emoji set: 1,911 images on white with five captions each, all in memory.

It is the default data set and part of the package, so everything runs offline. The label is the
subgroup ("animal-mammal"), an int32. About a tenth of every subgroup is held out.
"""
from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from PIL import Image

from xmc_jax.data.embedded import emoji_assets
from xmc_jax.data.plan import MIDDLE
from xmc_jax.types import UserError

# Images whose mirror image means something else or nothing: signs, letters, digits, directions.
FIXED_GROUPS = frozenset(('symbols', 'flags', 'component'))
FIXED_SUBGROUPS = frozenset((
    'time', 'hand-single-finger', 'place-map', 'place-building', 'money', 'music', 'book-paper',
    'mail', 'computer', 'phone', 'writing', 'office', 'award-medal', 'game', 'emotion'))
FIXED_WORDS = re.compile(
    r'left|right|facing|moon|clock|sign|letter|map|Japanese|station|ticket|firecracker|envelope|'
    r'bus\b|bus stop|taxi|police|ambulance|battery|label|card|calendar|film|camera|radio|'
    r'performing|flower cards|keyboard|thermometer|speaker|beverage box|love|OK\b|NO\b|vest|'
    r'running shirt|judge|pilot|bellhop|score|abacus|fuel|meter|scale')


class Emoji:
  """Implements `xmc_jax.data.source.Source`."""
  name = 'emoji'

  def __init__(self, indices: Sequence[int], size: int, class_names: tuple[str, ...]):
    """Decodes the images of `emoji_assets.records()` at `indices`, at `size` pixels a side."""
    self._records = [emoji_assets.records()[i] for i in indices]
    self.size = size
    self.class_names = class_names
    self.images = np.stack([on_white(emoji_assets.image(i), size) for i in indices])
    self.flippable = np.array([may_flip(record) for record in self._records])
    self._labels = np.array([class_names.index(r['subgroup']) for r in self._records], np.int32)
    self._captions = [write_captions(record) for record in self._records]

  def __len__(self) -> int:
    return len(self._records)

  def image(self, index: int, crop: Sequence[float] = MIDDLE) -> np.ndarray:
    return self.images[index]

  def captions(self, index: int) -> tuple[str, ...]:
    return self._captions[index]

  def label(self, index: int) -> np.ndarray:
    return self._labels[index]

  def record(self, index: int) -> dict:
    """Returns the image's record, see `emoji_assets.records`."""
    return self._records[index]


def load(split: str, size: int = 64, groups: Sequence[str] | None = None) -> Emoji:
  """Returns a split of the emoji: all groups, or only `groups` ("animals-nature", …).

  Raises:
    UserError: a group does not exist, or none is given.
  """
  records = emoji_assets.records()
  known = tuple(dict.fromkeys(record['group'] for record in records))
  wanted = known if groups is None else tuple(groups)
  if not wanted:
    raise UserError('--config.data.options.groups: is empty; choose from ' + ', '.join(known))
  for group in wanted:
    if group not in known:
      raise UserError(f'--config.data.options.groups: the emoji have no group {group!r}; choose '
                      f'from {", ".join(known)}')
  chosen = [i for i, record in enumerate(records) if record['group'] in wanted]
  class_names = tuple(dict.fromkeys(records[i]['subgroup'] for i in chosen))
  split_is_heldout = split == 'heldout'
  indices = [i for i in chosen if records[i]['heldout'] == split_is_heldout]
  return Emoji(indices, size, class_names)


def on_white(image: Image.Image, size: int) -> np.ndarray:
  """Puts an RGBA image on white: uint8 [size, size, 3], area average down, Lanczos up."""
  white = Image.new('RGBA', image.size, 'white')
  flat = Image.alpha_composite(white, image).convert('RGB')
  if size != flat.width:
    way = Image.Resampling.BOX if size < flat.width else Image.Resampling.LANCZOS
    flat = flat.resize((size, size), way)
  return np.asarray(flat)


def may_flip(record: dict) -> bool:
  """Whether the captions of an image stay true of its mirror image."""
  return (record['group'] not in FIXED_GROUPS and record['subgroup'] not in FIXED_SUBGROUPS
          and not FIXED_WORDS.search(record['name']))


def write_captions(record: dict) -> tuple[str, ...]:
  """Returns the five captions of an image, from its record."""
  name, phrase = record['name'], record['phrase']
  return (name, f'an emoji of {phrase}', with_keywords(record),
          f"a picture of {phrase}, {record['kind']}",
          with_colors(record) or f'a small picture of {phrase} on white')


def with_keywords(record: dict) -> str:
  """Returns the name and two keywords, or the kind of thing otherwise: "red apple, diet, food"."""
  return ', '.join([record['name'], *(record['keywords'][:2] or [record['kind']])])


def with_colors(record: dict) -> str:
  """Returns the phrase with the colors: "a fox, mostly orange"; empty if there are no colors."""
  colours = record['colours']
  if len(colours) == 2:
    return f"{record['phrase']} in {colours[0]} and {colours[1]}"
  return f"{record['phrase']}, mostly {colours[0]}" if colours else ''
