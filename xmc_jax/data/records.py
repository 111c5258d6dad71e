"""Prepared images in a folder: shards of encoded images with captions, and a manifest.

  manifest.json                      what the set is, and its shards; written last
  train-00000.rec, train-00001.rec   `xmc_jax.data.shards`, some thousand images each
  heldout-00000.rec

A preparation calls `write_shard` for every shard, in any order and from any number of processes,
and then `finish`; `xmc prepare` does (`xmc_jax/prepare/run.py`). Images are stored at `size`
pixels or more a side; the reader takes a square of `size` from each, at a place that the plan
draws, and reduces it where a run asks for less.
"""
from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from xmc_jax.data.plan import MIDDLE
from xmc_jax.data.shards import Example, Shard, write
from xmc_jax.types import UserError
from xmc_jax.utils import atomic

FORMAT, VERSION = 'xmc_jax records', 1
MANIFEST = 'manifest.json'
CROPS = ('random', 'centre')
_CODECS = ('JPEG', 'PNG', 'WEBP')


@dataclasses.dataclass(frozen=True)
class About:
  """What holds for all images of a folder.

  name            of the set, for people
  size            pixels of a side of the square that is taken from an image
  class_names     the names of the l classes; there may be none
  several_labels  whether an image has any number of labels, or exactly one
  """
  name: str
  size: int
  class_names: tuple[str, ...] = ()
  several_labels: bool = True


@dataclasses.dataclass(frozen=True)
class Record:
  """One example as a preparation gives it.

  image    bytes of an RGB JPEG, PNG or WebP file, both sides at least `About.size`
  captions   one or more
  labels     numbers of its classes
  flippable  whether the captions stay true of the mirror image
  more       further facts (boxes, the original's name), ready for JSON
  areas      of each label in (0, 1]: the share of the image that it covers; none if not known
  """
  image: bytes
  captions: tuple[str, ...]
  labels: tuple[int, ...] = ()
  flippable: bool = True
  more: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  areas: tuple[float, ...] = ()


def write_shard(folder: str | os.PathLike, about: About, split: str, number: int,
                records: Iterable[Record], facts: Mapping[str, Any] | None = None) -> int:
  """Writes one shard unless it is there already, and returns its number of examples.

  `facts`, ready for JSON, are kept in the shard (`Shard.facts`) beside `about`. They are read when
  the last record has been written, so that `records` may add to them on its way.

  Raises:
    UserError: if the shard is there and is damaged or of another set.
    ValueError: if a record is not as `Record` and `about` say.
  """
  path = shard_path(folder, split, number)
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    own = dataclasses.asdict(about)
    write(path, lambda: {**(facts or {}), **own}, _checked(about, records))
  return len(open_shard(path, about))


def finish(folder: str | os.PathLike, about: About, shards: Mapping[str, int],
           facts: Mapping[str, Any] | None = None) -> None:
  """Writes the manifest of shards 0 … number - 1 of every split; the folder can then be read.

  The manifest has the size and the sha256 of every shard, and `facts`, ready for JSON.

  Raises:
    UserError: if a shard is missing, damaged or of another set.
  """
  splits = {split: [] for split in shards}
  for split, number in shards.items():
    for path in (shard_path(folder, split, i) for i in range(number)):
      splits[split].append({'file': path.name, 'examples': len(open_shard(path, about)),
                            'bytes': path.stat().st_size, 'sha256': sha256(path)})
  manifest = {'format': FORMAT, 'version': VERSION, **dataclasses.asdict(about), **(facts or {}),
              'splits': splits}
  atomic.save(pathlib.Path(folder, MANIFEST), json.dumps(manifest, indent=1) + '\n')


class Records:
  """See `xmc_jax.data.source.Source`. Files are opened by the process that first reads them.

  about  what the manifest says of the set
  """
  images = None

  def __init__(self, about: About, shards: Sequence[Shard], size: int, crop: str):
    self.name, self.about, self.size, self.class_names = about.name, about, size, about.class_names
    self.flippable = np.concatenate([shard.index['flippable'] for shard in shards])
    self._shards, self._crop = shards, crop
    self._ends = np.cumsum([len(shard) for shard in shards])

  def __len__(self) -> int:
    return len(self.flippable)

  def image(self, index: int, crop: Sequence[float] = MIDDLE) -> np.ndarray:
    shard, at = self._find(index)
    data = shard.image(at)
    try:
      image = Image.open(io.BytesIO(data), formats=_CODECS)
      return np.asarray(self._cut(image, MIDDLE if self._crop == 'centre' else crop))
    except Exception as error:  # Pillow raises all kinds for files that it cannot decode
      raise shard.damaged(f'the image of example {at} cannot be decoded ({error})') from error

  def captions(self, index: int) -> tuple[str, ...]:
    return tuple(self.record(index)['captions'])

  def label(self, index: int) -> np.ndarray:
    record = self.record(index)
    if not self.about.several_labels:
      return np.int32(record['labels'][0])
    label = np.zeros(len(self.class_names), np.float32)
    label[record['labels']] = record.get('areas') or 1
    return label

  def record(self, index: int) -> dict[str, Any]:
    """All that was stored beside the image: captions, labels, areas and `Record.more`."""
    shard, at = self._find(index)
    return shard.words(at)

  def _find(self, index: int) -> tuple[Shard, int]:
    """The shard of an example, and the example's place in it."""
    number = int(np.searchsorted(self._ends, index, 'right'))
    return self._shards[number], index - (int(self._ends[number - 1]) if number else 0)

  def _cut(self, image: Image.Image, crop: Sequence[float]) -> Image.Image:
    side = self.about.size
    x, y = (int(place * (extent - side + 1))
            for place, extent in zip(reversed(crop), image.size, strict=True))
    box = x, y, x + side, y + side
    if self.size < side:
      return image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)
    return image if image.size == (side, side) else image.crop(box)


def load(split: str, size: int = 256, folder: str | None = None, crop: str = 'random') -> Records:
  """Returns a split of a prepared folder.

  Args:
    split: "train" or "heldout".
    size: pixels of a side, at most the prepared size.
    folder: with the manifest.
    crop: which square of an image to take: "random", as the plan draws it, or "centre".

  Raises:
    UserError: if an option is missing or wrong, or the folder is missing, unfinished, damaged or of
      another version.
  """
  if not folder:
    raise UserError("The data set 'records' needs its folder; give it with "
                    '--config.data.options.folder=FOLDER.')
  if '://' in str(folder):
    raise UserError(f'--config.data.options.folder={folder}: a bucket cannot be read; copy the '
                    'folder to a disk of every host, or mount the bucket, and give that path.')
  if crop not in CROPS:
    raise UserError(f'--config.data.options.crop={crop}: choose one of {", ".join(CROPS)}.')
  folder = pathlib.Path(str(folder))     # its name may be a number
  manifest = read_manifest(folder)
  try:
    about = _about(manifest)
    files = manifest['splits'].get(split, [])
    expected = {file['file']: (file['examples'], file['bytes']) for file in files}
  except (KeyError, TypeError, AttributeError) as error:
    raise UserError(f'{folder / MANIFEST} is damaged ({type(error).__name__}: {error}); '
                    'copy or prepare the data set again.') from error
  if not expected:
    raise UserError(f'The data set in {folder} has no {split!r} split, only '
                    f'{", ".join(manifest["splits"])}; prepare it with that split.')
  if size > about.size:
    raise UserError(f'The images in {folder} were prepared for {about.size} px, and '
                    f'--config.model.size={size}; prepare them at {size} px or train at '
                    f'{about.size}.')
  shards = [open_shard(folder / name, about) for name in expected]
  for shard in shards:
    if (len(shard), shard.path.stat().st_size) != expected[shard.path.name]:
      raise shard.damaged('it is not the file that the manifest describes')
  return Records(about, shards, size, crop)


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
  """The manifest of a prepared folder. UserError if there is none, or not one that can be read."""
  path = folder / MANIFEST
  if not path.is_file():
    unfinished = any(folder.glob('*.rec*'))
    what = ('its preparation has not finished; run the same preparation again' if unfinished else
            'prepare a data set there, or give the folder of one with '
            '--config.data.options.folder=FOLDER')
    raise UserError(f'{folder} has no manifest.json: {what}.')
  try:
    manifest = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise UserError(f'{path} cannot be read ({error}); copy or prepare the data set '
                    'again.') from error
  found = (manifest.get('format'), manifest.get('version')) if isinstance(manifest, dict) else None
  if found is None or found[0] != FORMAT:
    raise UserError(f'{path} does not describe prepared images; give the folder of a prepared '
                    'data set with --config.data.options.folder=FOLDER.')
  if found[1] != VERSION:
    raise UserError(f'{folder} was prepared by another version of xmc_jax (format {found[1]}, this '
                    f'one reads {VERSION}); prepare it again.')
  return manifest


def _about(facts: Mapping[str, Any]) -> About:
  values = {field.name: facts[field.name] for field in dataclasses.fields(About)}
  return About(**values | {'class_names': tuple(values['class_names'])})


def shard_path(folder: str | os.PathLike, split: str, number: int) -> pathlib.Path:
  """Where `write_shard` writes."""
  return pathlib.Path(folder, f'{split}-{number:05d}.rec')


def open_shard(path: pathlib.Path, about: About) -> Shard:
  """A shard of the set `about`. UserError if it is missing, damaged or of another set."""
  shard = Shard(path)
  if _about(shard.facts) != about:
    raise UserError(f'{path} belongs to another data set, {shard.facts["name"]!r} at '
                    f'{shard.facts["size"]} px; choose another folder, or delete the file and '
                    'prepare it again.')
  return shard


def _checked(about: About, records: Iterable[Record]) -> Iterator[Example]:
  for number, record in enumerate(records):
    with Image.open(io.BytesIO(record.image), formats=_CODECS) as image:
      if image.mode != 'RGB' or min(image.size) < about.size:
        raise ValueError(f'record {number}: the image is {image.mode}, {image.size}; it must '
                         f'be RGB and at least {about.size} px a side')
    if not record.captions or not all(caption.strip() for caption in record.captions):
      raise ValueError(f'record {number} has no caption, or an empty one')
    known = set(record.labels) <= set(range(len(about.class_names)))
    if not known or not (about.several_labels or len(record.labels) == 1):
      raise ValueError(f'record {number} has the labels {record.labels}, of '
                       f'{len(about.class_names)} classes')
    if record.areas and (len(record.areas) != len(record.labels) or
                         not all(0 < area <= 1 for area in record.areas)):
      raise ValueError(f'record {number} has the areas {record.areas}; there must be one in (0, 1] '
                       f'for each of the labels {record.labels}, or none at all')
    words = {**record.more, 'captions': record.captions, 'labels': record.labels}
    yield Example(record.image, words | ({'areas': record.areas} if record.areas else {}),
                  record.flippable)


def sha256(path: str | os.PathLike) -> str:
  """Of a file's bytes, in hexadecimal."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
