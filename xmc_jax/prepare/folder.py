"""Images of one's own: a folder of them, with captions in text files or in one table.

  flowers/rose.jpg, flowers/rose.txt    beside each image a text file, one caption a line
  flowers/captions.csv                  or a table, see `xmc_jax.prepare.caption_tables`

Images are JPEG, PNG, WebP, GIF (the first frame), BMP and TIFF files, at any depth; hidden files
and folders do not count. A table names them by their paths below the folder. If the folder has one
table called `captions` or `metadata`, it is taken, and text files are not.

Which images are held out, in this order: those that the column `split` says; those in the folder
heldout/, val/ or test/ where there is also train/; or else a share that follows from the hash of
each image's path below the folder. So adding images moves none from one split to the other.
"""
from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pathlib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from xmc_jax.prepare import caption_tables
from xmc_jax.prepare.captions import clean, may_flip
from xmc_jax.prepare.original import Original, Raw
from xmc_jax.types import UserError

ENDINGS = ('.jpg', '.jpeg', '.png', '.webp', '.gif', '.bmp', '.tif', '.tiff')
TABLES = tuple(f'{name}{kind}' for name in ('captions', 'metadata')
               for kind in caption_tables.KINDS)
SPLITS = {'train': 'train', **dict.fromkeys(
  ('heldout', 'val', 'valid', 'validation', 'dev', 'test'), 'heldout')}
LABELS, FLIPS = ('column', 'folders', 'none'), ('auto', 'never', 'always')


def open(source: pathlib.Path, captions: str | None = None, labels: str = 'column',
         heldout: float = 0.1, seed: int = 0, flip: str = 'auto',
         name: str | None = None) -> Original:
  """Opens the data set.

  Args:
    source: the folder.
    captions: the table, where it has another name or lies elsewhere.
    labels: "column", of the table, if there is one; "folders": the first folder of an image's
      path is its class; or "none".
    heldout: the share of images that is held out, where neither table nor folders say which.
    seed: of that choice.
    flip: which images may be mirrored: "auto", those whose captions speak of neither left nor
      right; "never" or "always". Take "never" for images of writing.
    name: of the set; by default the folder's.

  Raises:
    UserError: if there are no images or no captions, or as `caption_tables` says, or a table and
      the folder contradict each other, or an option is wrong.
  """
  if labels not in LABELS:
    raise UserError(f'labels={labels}: choose one of {", ".join(LABELS)}.')
  if flip not in FLIPS:
    raise UserError(f'flip={flip}: choose one of {", ".join(FLIPS)}.')
  if not 0 < heldout < 1:
    raise UserError(f'heldout={heldout}: it is a share of the images, above 0 and below 1.')
  source = pathlib.Path(source)
  name = source.resolve().name if name is None else name
  if not name or set(name) & set('/\\'):
    raise UserError(f'name={name}: the prepared folder is called after it, so give a name without '
                    'slashes.')
  paths = _images(source)
  table = _table(source, captions)
  left_out: Counter[str] = Counter()
  found = (_beside(source, paths, left_out) if table is None else
           _of_table(source, paths, table, left_out))
  splits = _splits(source, found, heldout, seed)
  class_names, several = _label(source, found, splits, labels)
  return Folder(name, class_names, several, found, splits, flip,
                {} if table is None else {table.name: str(table)}, dict(left_out))


@dataclasses.dataclass
class Image:
  """An image and what was said of it so far."""
  path: pathlib.Path
  captions: list[str]
  label: str | None = None
  labels: tuple[str, ...] | None = None
  split: str | None = None
  classes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Folder:
  """See `xmc_jax.prepare.original.Original`."""
  name: str
  class_names: tuple[str, ...]
  several_labels: bool
  images: Mapping[str, Image]
  splits: Mapping[str, tuple[str, ...]]
  flip: str
  files: Mapping[str, str]
  left_out: Mapping[str, int]
  vocabulary = None

  @property
  def counts(self) -> dict[str, int]:
    """See `Original`."""
    return {split: len(names) for split, names in self.splits.items()}

  def examples(self, split: str, start: int, stop: int) -> Iterator[Raw]:
    """See `Original`."""
    for name in self.splits[split][start:stop]:
      image = self.images[name]
      flippable = may_flip(image.captions) if self.flip == 'auto' else self.flip == 'always'
      yield Raw(name, functools.partial(pathlib.Path.read_bytes, image.path),
                tuple(image.captions), image.classes, flippable=flippable)


def _images(source: pathlib.Path) -> dict[str, pathlib.Path]:
  """{path below the folder: path} of all images, in alphabetical order."""
  if not source.is_dir():
    raise UserError(f'{source} is not a folder; give the folder of the images, unpacked.')
  found = {}
  for folder, below, files in os.walk(source):
    below[:] = [one for one in below if not one.startswith('.') and one != '__MACOSX']
    for path in (pathlib.Path(folder, file) for file in files if not file.startswith('.')):
      if path.suffix.lower() in ENDINGS:
        found[_name(path.relative_to(source))] = path
  if not found:
    raise UserError(f'{source} has no images, that is files that end in {", ".join(ENDINGS)}.')
  return dict(sorted(found.items()))


def _name(path: pathlib.PurePath) -> str:
  """The same on all systems, of which some write an accent as a letter of its own."""
  return unicodedata.normalize('NFC', path.as_posix())


def _table(source: pathlib.Path, captions: str | None) -> pathlib.Path | None:
  if captions is not None:
    path = next((path for path in (pathlib.Path(captions), source / captions) if path.is_file()),
                None)
    if path is None:
      raise UserError(f'captions={captions}: there is no such file, nor {source / captions}.')
    return path
  found = [source / name for name in TABLES if (source / name).is_file()]
  if len(found) > 1:
    raise UserError(f'{source} has several tables of captions, '
                    f'{", ".join(path.name for path in found)}; name one with captions=FILE.')
  return found[0] if found else None


def _beside(source: pathlib.Path, paths: Mapping[str, pathlib.Path],
            left_out: Counter[str]) -> dict[str, Image]:
  """The images with the captions of the text files beside them."""
  texts, found = {}, {}
  for name, path in paths.items():
    text = path.with_suffix('.txt')
    if text in texts:
      raise UserError(f'{name} and {texts[text]} would share the captions of {text.name}; rename '
                      'one of them, or remove it.')
    texts[text] = name
    lines = caption_tables.read_text(text).split('\n') if text.is_file() else []
    captions = [line for line in map(clean, lines) if line]
    if captions:
      found[name] = Image(path, captions)
  _count_silent(paths, found, left_out)
  if not found:
    raise UserError(
      f'{source} has {len(paths):,} images and no captions: write them in text files beside the '
      f'images, such as {next(iter(texts)).name}, one a line, or in a table captions.csv with '
      'the columns file and caption.')
  return found


def _of_table(source: pathlib.Path, paths: Mapping[str, pathlib.Path], table: pathlib.Path,
              left_out: Counter[str]) -> dict[str, Image]:
  """The images with what the lines of a table say of them, in its order."""
  found, missing = {}, []
  for line in caption_tables.read(table):
    name = _below(source, line.file)
    if name not in paths:
      missing.append(line)
      continue
    image = found.setdefault(name, Image(paths[name], []))
    new = [text for text in dict.fromkeys(line.captions) if text not in image.captions]
    left_out['captions that an image has twice'] += len(line.captions) - len(new)
    left_out['captions without a word'] += line.empty
    image.captions += new
    for what in ('label', 'labels', 'split'):
      _agree(line, image, what)
  if missing:
    raise UserError(_missing(source, paths, table, missing))
  spoken = {name: image for name, image in found.items() if image.captions}
  if not spoken:
    raise UserError(f'{table} has no caption.')
  _count_silent(paths, spoken, left_out)
  for why in [why for why, count in left_out.items() if not count]:
    del left_out[why]
  return spoken


def _below(source: pathlib.Path, file: str) -> str:
  """The name of an image that a table names; files are often named on other systems."""
  path = pathlib.PurePath(os.path.normpath(file.replace('\\', '/')))
  if path.is_absolute() and path.is_relative_to(source.resolve()):
    path = path.relative_to(source.resolve())
  return _name(path)


def _agree(line: caption_tables.Line, image: Image, what: str) -> None:
  """Lines of the same image are to say the same of it."""
  known, told = getattr(image, what), getattr(line, what)
  if told is not None and known is not None and told != known:
    raise UserError(f'{line.where}: {line.file} has the {what} {told!r}, and {known!r} on an '
                    'earlier line.')
  setattr(image, what, known if told is None else told)


def _missing(source: pathlib.Path, paths: Mapping[str, pathlib.Path], table: pathlib.Path,
             missing: list[caption_tables.Line]) -> str:
  line = missing[0]
  last = pathlib.PurePath(_below(source, line.file)).name.lower()
  near = next((name for name in paths if name.rpartition('/')[2].lower() == last), None)
  hint = f'is {near} meant?' if near else 'add the files, or remove these lines.'
  count = len({one.file for one in missing})
  return (f'{table} names images that are not in {source}, {count:,} in all, first {line.file} '
          f'on line {line.where.rpartition(" ")[2]}; {hint}')


def _count_silent(paths: Mapping[str, Any], spoken: Mapping[str, Any],
                  left_out: Counter[str]) -> None:
  silent = [name for name in paths if name not in spoken]
  if silent:
    told = ', '.join(silent[:3]) + (', …' if len(silent) > 3 else '')
    left_out[f'images without a caption ({told})'] = len(silent)


def _splits(source: pathlib.Path, found: Mapping[str, Image], heldout: float,
            seed: int) -> dict[str, tuple[str, ...]]:
  """{split: names of its images}, and each `Image.split` is one of both."""
  tops = {name: name.partition('/')[0].lower() if '/' in name else '' for name in found}
  if any(image.split for image in found.values()):
    told, where = {name: image.split for name, image in found.items()}, 'the column split'
  elif {'train', 'heldout'} <= {SPLITS.get(top) for top in tops.values()}:
    told, where = tops, f'the folders in {source}'
  else:
    told = {name: 'heldout' if _share(name, seed) < heldout else 'train' for name in found}
    where = f'a share of heldout={heldout} and seed={seed}'
  splits = {'train': [], 'heldout': []}
  for name, word in told.items():
    split = SPLITS.get((word or '').lower())
    if split is None:
      raise UserError(f'{name} is in no split that is known, after {where}'
                      f'{f" ({word})" if word else ""}; each image needs one of '
                      f'{", ".join(SPLITS)}.')
    found[name].split = split
    splits[split].append(name)
  for split, names in splits.items():
    if not names:
      raise UserError(f'{source}: after {where}, none of the {len(found):,} images is in the '
                      f'{split} split; choose otherwise, or add images.')
  return {split: tuple(names) for split, names in splits.items()}


def _share(name: str, seed: int) -> float:
  """A number in [0, 1) that is always the same for a name and a seed."""
  digest = hashlib.sha256(f'{seed}/{name}'.encode('utf-8', 'surrogateescape')).digest()
  return int.from_bytes(digest[:6], 'big') / 2**48


def _label(source: pathlib.Path, found: Mapping[str, Image], splits: Mapping[str, Any],
           labels: str) -> tuple[tuple[str, ...], bool]:
  """Sets each image's classes; returns their names and whether an image may have several."""
  several = labels == 'column' and any(one.labels is not None for one in found.values())
  if labels == 'folders':
    told = {name: _class_folder(name) for name in found}
  elif several:
    told = {name: image.labels or () for name, image in found.items()}
  elif labels == 'column' and any(image.label for image in found.values()):
    told = {name: (image.label,) if image.label else () for name, image in found.items()}
  else:
    return (), True
  silent = [name for name, those in told.items() if not those]
  if silent and not several:
    raise UserError(f'{source} has images without a label, {len(silent):,} in all, first '
                    f'{silent[0]}; give each one, or take labels=none.')
  class_names = sorted({one for those in told.values() for one in those})
  numbers = {name: number for number, name in enumerate(class_names)}
  for name, those in told.items():
    found[name].classes = tuple(sorted({numbers[one] for one in those}))
  return tuple(class_names), several


def _class_folder(name: str) -> list[str]:
  """The first folder of a path, after that of its split; empty if there is none."""
  folders = name.split('/')[:-1]
  if folders and folders[0].lower() in SPLITS:
    del folders[0]
  return folders[:1]
