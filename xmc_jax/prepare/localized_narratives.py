"""Localized Narratives: long spoken descriptions, transcribed, of images of COCO and Open Images.

Published at https://google.github.io/localized-narratives (CC BY 4.0) as JSON lines with
`image_id`, `annotator_id` and `caption`; mouse traces and voice recordings are not used. The files
under "Textual captions only" contain all that is needed and are preferred if both kinds are there.
Some images have several narratives.

The option `each` says what one example is:

  image      an image with all its narratives as captions, in the order of the files (the default)
  narrative  an image with one narrative; an image with n narratives is stored n times

The literature counts narratives: 134,272 and 8,573 for COCO (5,000 held-out images), 507,444 and
41,691 for Open Images (as published; one paper reportedly uses about 37,000 of the latter, chosen
in a way unknown to us). With `each = "image"` an epoch contains every image once, and evaluation
draws every held-out image equally often, with a random one of its narratives. With
`each = "narrative"` an image with n narratives appears n times, also among the real images of a
score.

Left out and counted are empty narratives, those with fewer words than `shortest` (0: none), and
repetitions of a text for the same image. Whether the papers filtered is unknown, but their training
sets have the published sizes.
"""
from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from xmc_jax.prepare import captions
from xmc_jax.prepare.archives import ImageStore
from xmc_jax.prepare.coco_objects import read_objects
from xmc_jax.prepare.original import OriginalExample
from xmc_jax.prepare.packed import Numbers, Texts
from xmc_jax.types import UserError
from xmc_jax.utils import regular

ADDRESS = 'https://google.github.io/localized-narratives'
EACH = ('image', 'narrative')
MISSING = ('bad', 'leave_out')


@dataclasses.dataclass(frozen=True)
class Choices:
  """Options of the user; see the docstring of the module.

  Attributes:
    each: "image" or "narrative".
    shortest: minimum number of words of a narrative.
    missing: what to do with an example whose image is missing: "bad", as in every data set, or
      "leave_out", for partial downloads.
  """
  each: str = 'image'
  shortest: int = 0
  missing: str = 'bad'

  def __post_init__(self):
    for name, known in (('each', EACH), ('missing', MISSING)):
      if getattr(self, name) not in known:
        raise UserError(f'{name}={getattr(self, name)}: choose one of {", ".join(known)}')
    if self.shortest < 0:
      raise UserError(f'shortest={self.shortest}: must be a number of words, at least 0')


@dataclasses.dataclass(frozen=True)
class Half:
  """The files of a split.

  Attributes:
    part: name of the split in file names, for messages.
    lists: JSON lines files.
    published: number of narratives that they contain together.
    images: the image files.
    file_name: returns an image's file name for its `image_id`; may raise ValueError.
    objects: path of instances_*.json and its name in a zip; needs file names that are numbers.
  """
  part: str
  lists: Sequence[pathlib.Path]
  published: int
  images: ImageStore
  file_name: Callable[[str], str]
  objects: tuple[pathlib.Path, str] | None = None


class Narratives:
  """Implements `xmc_jax.prepare.original.Original`. Images are ordered by file name."""
  several_labels = True
  vocabulary = None

  def __init__(self, name: str, halves: Mapping[str, Half], choices: Choices):
    self.name, self._parts, missed = name, {}, Counter()
    for split, half in halves.items():
      def left_out(why: str, count: int) -> None:
        missed[f'{half.part}, {why}'] += count
      self._parts[split] = _NarrativeSplit(half, choices, left_out)
    self.files = {path.name: str(path) for half in halves.values()
                  for path in (*half.lists, *([half.objects[0]] if half.objects else []))}
    self.left_out = {why: count for why, count in missed.items() if count}
    self.counts = {split: len(part) for split, part in self._parts.items()}
    names = {part.class_names for part in self._parts.values()}
    if len(names) > 1:
      raise UserError('instances_*.json: those of the two splits name different categories, or one '
                      'is missing; download both again')
    self.class_names = names.pop()

  def examples(self, split: str, start: int, stop: int) -> Iterator[OriginalExample]:
    """See `Original`."""
    return map(self._parts[split].example, range(start, stop))


class _NarrativeSplit:
  """The narratives of a split by image, and which of them make up each example."""

  def __init__(self, half: Half, choices: Choices, left_out: Callable[[str, int], None]):
    found = _by_image(half, choices, left_out)
    names = sorted(found)
    self._images = half.images
    self._names = Texts([name] for name in names)
    self._captions = Texts(found[name] for name in names)
    self._annotators = Numbers(list(found[name].values()) for name in names)
    self._objects = None
    if half.objects:
      ids = [int(name.partition('.')[0]) for name in names]
      self._objects = read_objects(*half.objects, ids, left_out)
    several = [len(found[name]) if choices.each == 'narrative' else 1 for name in names]
    self._whole = choices.each == 'image'
    self._row = np.repeat(np.arange(len(names), dtype=np.int32), several)
    self._first = np.cumsum([0, *several])

  def __len__(self) -> int:
    return len(self._row)

  @property
  def class_names(self) -> tuple[str, ...]:
    return self._objects.class_names if self._objects else ()

  def example(self, index: int) -> OriginalExample:
    row = int(self._row[index])
    (name,), texts, by = self._names[row], self._captions[row], self._annotators[row]
    called = name
    if not self._whole:
      k = index - int(self._first[row])
      texts, by, called = texts[k:k + 1], by[k:k + 1], f'{name}-{k}'
    more = {'file_name': name, 'annotator_ids': by}
    marks = self._objects.marks(row) if self._objects else None
    return OriginalExample(
        called, functools.partial(self._images.read, name), texts,
        marks.labels if marks else (), marks.areas if marks else (),
        flippable=captions.may_flip(texts), more=more | (marks.more if marks else {}))


def _by_image(half: Half, choices: Choices,
                left_out: Callable[[str, int], None]) -> dict[str, dict[str, int]]:
  """Returns {image file name: {narrative: annotator}}, in the order of the files."""
  found, missed, read = defaultdict(dict), Counter(), 0
  there = half.images.names() if choices.missing == 'leave_out' else None
  for name, text, annotator in _read(half):
    read += 1
    if not text:
      missed['narratives without a word'] += 1
    elif len(text.split()) < choices.shortest:
      missed[f'narratives of fewer than {choices.shortest} words'] += 1
    elif there is not None and name not in there:
      missed['narratives of images that are not there'] += 1
    elif text in found[name]:
      missed['narratives that repeat one of the same image'] += 1
    else:
      found[name][text] = annotator
  for why, count in missed.items():
    left_out(why, count)
  left_out(f'narratives of the {half.published:,} published that the files do not have',
           max(half.published - read, 0))
  return {name: texts for name, texts in found.items() if texts}


def _read(half: Half) -> Iterator[tuple[str, str, int]]:
  """Yields (image file name, narrative on one line, annotator or -1) of every line.

  The files are gigabytes, so they are parsed line by line and not read whole.
  """
  for path in half.lists:
    regular.check(path)
    with path.open('rb') as lines:
      for number, line in enumerate(lines, 1):
        if not line.strip():
          continue
        try:
          fact = json.loads(line)
          yield (half.file_name(fact['image_id']), captions.clean(fact['caption']),
                 int(fact.get('annotator_id', -1)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
          raise UserError(f'{path}, line {number}, is not a narrative ({type(error).__name__}: '
                          f'{error}); download the file again from {ADDRESS}') from error


def find_lists(source: pathlib.Path, stem: str, shards: int = 0) -> list[pathlib.Path]:
  """Returns the files of one split in `source` or in `source`/annotations.

  Args:
    source: folder that the user gave.
    stem: start of their names, such as "coco_train".
    shards: number of files of the full narratives; 0 if they are one file.

  Raises:
    UserError: there are none, or some of the shards are missing.
  """
  short, full = f'{stem}_captions.jsonl', f'{stem}_localized_narratives'
  names = [f'{full}-{i:05d}-of-{shards:05d}.jsonl' for i in range(shards)] or [f'{full}.jsonl']
  for home in (source, source / 'annotations'):
    there = [home / name for name in names if (home / name).is_file()]
    if (home / short).is_file():
      return [home / short]
    if there and len(there) < len(names):
      missing = next(name for name in names if home / name not in there)
      raise UserError(f'{home} has no {missing}, but others of its {len(names)} parts; download it '
                      f'from {ADDRESS}, or {short} alone')
    if there:
      return there
  raise UserError(f'{source} has no {short} (nor {names[0]}); download it from {ADDRESS} into that '
                  'folder')
