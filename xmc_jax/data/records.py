"""A prepared data set: a folder with shards of encoded images and captions, and a manifest.

  manifest.json                      describes the set and lists its shards; written last
  train-00000.rec, train-00001.rec   `xmc_jax.data.shards`, some thousand examples each
  heldout-00000.rec

A preparation calls `write_shard` for every shard, in any order and from any number of processes,
and then `finish`; `xmc prepare` does this (`xmc_jax/prepare/run.py`). Images are stored with both
sides of at least `DatasetInfo.size` pixels. When an image is read, a square of that size is cropped
at the place that the plan chose, and reduced if the run asks for a smaller size.
"""
from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from xmc_jax.data.plan import MIDDLE
from xmc_jax.data.shards import Shard, StoredExample, write
from xmc_jax.types import UserError
from xmc_jax.utils import atomic, mirror
from xmc_jax.utils.hashing import file_sha256, json_sha256

FORMAT, VERSION = 'xmc_jax records', 1
MANIFEST = 'manifest.json'
CROPS = ('random', 'center')
_CODECS = ('JPEG', 'PNG', 'WEBP')
_OTHER_FILES, _LEAST_OTHER = 256, 32      # that a training may, and must, have open beside shards


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
  """Properties of a whole prepared data set.

  Attributes:
    name: of the set, for people.
    size: side in pixels of the square that is cropped from an image.
    class_names: names of the l classes; may be empty.
    several_labels: whether an image has any number of labels (True) or exactly one.
  """
  name: str
  size: int
  class_names: tuple[str, ...] = ()
  several_labels: bool = True


@dataclasses.dataclass(frozen=True)
class Example:
  """One captioned image, ready to be stored.

  Attributes:
    image: bytes of an RGB JPEG, PNG or WebP file, both sides at least `DatasetInfo.size` pixels.
    captions: one or more.
    labels: indices of its classes.
    flippable: whether the captions stay true of the mirror image.
    more: further metadata (boxes, name of the original); must be valid JSON.
    areas: for each label the fraction of the image that it covers, in (0, 1]; empty if unknown.
  """
  image: bytes
  captions: tuple[str, ...]
  labels: tuple[int, ...] = ()
  flippable: bool = True
  more: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  areas: tuple[float, ...] = ()


def write_shard(folder: str | os.PathLike, info: DatasetInfo, split: str, number: int,
                examples: Iterable[Example], facts: Mapping[str, Any] | None = None) -> int:
  """Writes one shard unless it exists, and returns its number of examples.

  `facts`, valid JSON, are stored in the shard (`Shard.facts`) next to `info`. They are read after
  the last example has been written, so the iterator `examples` may add to them.

  Raises:
    UserError: the shard exists and is damaged, or belongs to another set.
    ValueError: an example is not as `Example` and `info` require.
  """
  path = shard_path(folder, split, number)
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    own = dataclasses.asdict(info)
    write(path, lambda: {**(facts or {}), **own}, _checked(info, examples))
  return len(open_shard(path, info))


def finish(folder: str | os.PathLike, info: DatasetInfo, shards: Mapping[str, int],
           facts: Mapping[str, Any] | None = None) -> None:
  """Writes the manifest, after which the folder can be read.

  Args:
    folder, info: as of `write_shard`.
    shards: {split: number of its shards}, all of which must exist.
    facts: further entries of the manifest, valid JSON.

  Raises:
    UserError: a shard is missing, damaged or belongs to another set.
  """
  splits = {split: [] for split in shards}
  for split, number in shards.items():
    for path in (shard_path(folder, split, i) for i in range(number)):
      splits[split].append({'file': path.name, 'examples': len(open_shard(path, info)),
                            'bytes': path.stat().st_size, 'sha256': file_sha256(path)})
  manifest = {'format': FORMAT, 'version': VERSION, **dataclasses.asdict(info), **(facts or {}),
              'splits': splits}
  atomic.save(pathlib.Path(folder, MANIFEST), json.dumps(manifest, indent=1) + '\n')


class Records:
  """Implements `xmc_jax.data.source.Source`. Each process opens the files at its first read.

  Attributes:
    info: of the whole set, from the manifest.
    sha256: of all that the manifest says of the split's shards, their hashes included.
  """
  images = None

  def __init__(self, info: DatasetInfo, shards: Sequence[Shard], size: int, crop: str,
               sha256: str):
    self.sha256 = sha256
    self.name, self.info, self.size, self.class_names = info.name, info, size, info.class_names
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
      return np.asarray(self._cut(image, MIDDLE if self._crop == 'center' else crop))
    except MemoryError:
      raise
    except Exception as error:  # Pillow raises many kinds of errors for broken files
      raise shard.damaged(f'the image of example {at} cannot be decoded ({error})') from error

  def captions(self, index: int) -> tuple[str, ...]:
    return tuple(self.record(index)['captions'])

  def label(self, index: int) -> np.ndarray:
    record = self.record(index)
    if not self.info.several_labels:
      return np.int32(record['labels'][0])
    label = np.zeros(len(self.class_names), np.float32)
    label[record['labels']] = record.get('areas') or 1
    return label

  def record(self, index: int) -> dict[str, Any]:
    """Returns all that is stored with the image: captions, labels, areas and `Example.more`."""
    shard, at = self._find(index)
    return shard.metadata(at)

  def _find(self, index: int) -> tuple[Shard, int]:
    """Returns the shard of an example and its index in that shard."""
    number = int(np.searchsorted(self._ends, index, 'right'))
    return self._shards[number], index - (int(self._ends[number - 1]) if number else 0)

  def _cut(self, image: Image.Image, crop: Sequence[float]) -> Image.Image:
    side = self.info.size
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
    size: side of the images in pixels, at most the prepared size.
    folder: that holds the manifest. If it is in a bucket, it is copied to this host first.
    crop: which square of an image to take: "random", at the place that the plan chose, or "center".

  Raises:
    UserError: an option is missing or wrong, or the folder is missing, unfinished, damaged or of
      another version.
  """
  if not folder:
    raise UserError('--config.data.name=records: the folder is missing; give it with '
                    '--config.data.options.folder=FOLDER')
  if crop not in CROPS:
    raise UserError(f'--config.data.options.crop={crop}: choose one of {", ".join(CROPS)}')
  folder = mirror.local(folder, '--config.data.options.folder')
  manifest = read_manifest(folder)
  try:
    info = _about(manifest)
    files = manifest['splits'].get(split, [])
    expected = {file['file']: (file['examples'], file['bytes']) for file in files}
    splits = [name for name, those in manifest['splits'].items() if those] or manifest['splits']
  except (KeyError, TypeError, AttributeError) as error:
    raise UserError(f'{folder / MANIFEST} is damaged ({type(error).__name__}: {error}); '
                    'copy or prepare the data set again') from error
  if not expected:
    raise UserError(f'{folder}: there is no {split!r} split, only {", ".join(splits)}; prepare the '
                    'data set with images in that split')
  if size > info.size:
    raise UserError(f'--config.model.size={size}: the images in {folder} were prepared at '
                    f'{info.size} px; prepare them at {size} px or train at {info.size}')
  _allow_open_files(len(expected), folder)
  shards = [open_shard(folder / name, info) for name in expected]
  for shard in shards:
    if (len(shard), shard.path.stat().st_size) != expected[shard.path.name]:
      raise shard.damaged('it is not the file that the manifest describes')
  return Records(info, shards, size, crop, json_sha256(files))


def _allow_open_files(number: int, folder: pathlib.Path) -> None:
  """Raises the limit of files that this process may have open, since each shard stays open."""
  try:
    import resource
  except ImportError:      # Windows
    return
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  infinite = resource.RLIM_INFINITY
  needed = 2 * number + _OTHER_FILES      # two splits
  if soft != infinite and soft < needed:
    soft = needed if hard == infinite else min(needed, hard)
    with contextlib.suppress(ValueError, OSError):      # macOS allows less than it says
      resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
  if soft != infinite and soft < number + _LEAST_OTHER:
    raise UserError(f'{folder} has {number:,} shards, each of which stays open, and this system '
                    f'allows a process {soft:,} open files; raise the limit (`ulimit -Hn`), or '
                    'prepare the set with a larger --shard_examples')


def is_shard(path: pathlib.Path) -> bool:
  """Whether a file is called as the shards of a prepared folder are; others have .rec files too."""
  return re.fullmatch(r'(train|heldout)-\d{5,}\.rec', path.name) is not None


def has_manifest(folder: pathlib.Path) -> bool:
  """Whether a manifest.json is there that is, or was, one of a prepared data set."""
  try:
    found = json.loads((folder / MANIFEST).read_bytes())
  except ValueError:       # damaged, or of something else
    return any(map(is_shard, folder.glob('*.rec')))
  except OSError:
    return False
  return isinstance(found, dict) and found.get('format') == FORMAT


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the manifest of a prepared folder. UserError if it is missing or not readable."""
  path = folder / MANIFEST
  if not path.is_file():
    unfinished = any(folder.glob('*.rec*'))
    what = ('its preparation has not finished; run the same preparation again' if unfinished else
            'prepare a data set there, or give the folder of one with --data FOLDER or '
            '--config.data.options.folder=FOLDER')
    raise UserError(f'{folder} has no manifest.json: {what}')
  try:
    manifest = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise UserError(f'{path}: cannot be read ({error}); copy or prepare the data set '
                    'again') from error
  found = (manifest.get('format'), manifest.get('version')) if isinstance(manifest, dict) else None
  if found is None or found[0] != FORMAT:
    raise UserError(f'{path} does not describe a prepared data set; give the folder of one with '
                    '--config.data.options.folder=FOLDER')
  if found[1] != VERSION:
    raise UserError(f'{folder} was prepared by another version of xmc_jax (format {found[1]}, this '
                    f'one reads {VERSION}); prepare it again')
  return manifest


def _about(facts: Mapping[str, Any]) -> DatasetInfo:
  values = {field.name: facts[field.name] for field in dataclasses.fields(DatasetInfo)}
  return DatasetInfo(**values | {'class_names': tuple(values['class_names'])})


def shard_path(folder: str | os.PathLike, split: str, number: int) -> pathlib.Path:
  """Returns the path of a shard."""
  return pathlib.Path(folder, f'{split}-{number:05d}.rec')


def open_shard(path: pathlib.Path, info: DatasetInfo) -> Shard:
  """Opens a shard of the set `info`. UserError if it is missing, damaged or of another set."""
  shard = Shard(path)
  found = _about(shard.facts)
  if found != info:
    same = (found.name, found.size) == (info.name, info.size)
    raise UserError(f'{path} belongs to another data set, {found.name!r} at {found.size} px'
                    f'{" with other classes" if same else ""}; choose another folder, or delete '
                    'the file and prepare it again')
  return shard


def _checked(info: DatasetInfo, examples: Iterable[Example]) -> Iterator[StoredExample]:
  for number, example in enumerate(examples):
    with Image.open(io.BytesIO(example.image), formats=_CODECS) as image:
      if image.mode != 'RGB' or min(image.size) < info.size:
        raise ValueError(f'example {number}: the image is {image.mode}, {image.size}; it must '
                         f'be RGB and at least {info.size} px a side')
    if not example.captions or not all(caption.strip() for caption in example.captions):
      raise ValueError(f'example {number} has no caption, or an empty one')
    known = set(example.labels) <= set(range(len(info.class_names)))
    if not known or not (info.several_labels or len(example.labels) == 1):
      raise ValueError(f'example {number} has the labels {example.labels}, of '
                       f'{len(info.class_names)} classes')
    if example.areas and (len(example.areas) != len(example.labels) or
                          not all(0 < area <= 1 for area in example.areas)):
      raise ValueError(f'example {number} has the areas {example.areas}; there must be one in '
                       f'(0, 1] for each of the labels {example.labels}, or none')
    metadata = {**example.more, 'captions': example.captions, 'labels': example.labels}
    yield StoredExample(example.image,
                        metadata | ({'areas': example.areas} if example.areas else {}),
                        example.flippable)
