"""Reader of your own images: a folder, with captions in text files or in one table.

  flowers/rose.jpg, flowers/rose.txt    next to each image a text file, one caption per line; it may
                                        also end in .caption
  flowers/images/, flowers/text/        or the text files in a tree of their own (AttnGAN)
  flowers/captions.csv                  or a table, see `xmc_jax.prepare.caption_tables`
  flowers/train/metadata.jsonl          or one in each folder (Hugging Face)

Which files are images, and which are skipped, is said in `xmc_jax.data.image_folder`. A table names
images by their paths below its own folder. If a folder has a table called `captions` or `metadata`,
it is used, and text files are ignored; tables of the folders below count only if it has none.

The held-out images are, in this order of preference: those that the table's column `split` says;
those in heldout/, val/ or test/ if there is also train/; otherwise a fraction chosen by a hash of
each image's path below the folder. So adding images never moves others between the splits.
"""
from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pathlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from xmc_jax.data import image_folder
from xmc_jax.data.source import MODULES
from xmc_jax.prepare import caption_tables
from xmc_jax.prepare.captions import clean, may_flip
from xmc_jax.prepare.original import Original, OriginalExample
from xmc_jax.types import UserError
from xmc_jax.utils.text_lines import read_lines

TABLES = tuple(f'{name}{kind}' for name in ('captions', 'metadata')
               for kind in caption_tables.KINDS)
TEXTS = '.txt', '.caption'
SPLITS = {'train': 'train', **dict.fromkeys(
  ('heldout', 'val', 'valid', 'validation', 'dev', 'test'), 'heldout')}
LABELS, FLIPS = ('column', 'folders', 'none'), ('auto', 'never', 'always')


def open(source: pathlib.Path, captions: str | None = None, labels: str = 'column',
         heldout: float = 0.1, seed: int = 0, flip: str = 'auto',
         name: str | None = None) -> Original:
  """Opens the data set.

  Args:
    source: the folder.
    captions: the table, if it has another name or is somewhere else.
    labels: where classes come from: "column" (of the table, if there is one), "folders" (the first
      folder of an image's path) or "none".
    heldout: fraction of images to hold out if neither table nor folders say which.
    seed: of that choice.
    flip: which images may be mirrored: "auto" (those whose captions mention neither left nor
      right), "never" or "always". Use "never" for images that show writing.
    name: of the set; by default the folder's name.

  Raises:
    UserError: there are no images or no captions, a table cannot be read (see `caption_tables`) or
      contradicts the folder, or an option is wrong.
  """
  if labels not in LABELS:
    raise UserError(f'labels={labels}: choose one of {", ".join(LABELS)}')
  if flip not in FLIPS:
    raise UserError(f'flip={flip}: choose one of {", ".join(FLIPS)}')
  if not 0 < heldout < 1:
    raise UserError(f'heldout={heldout}: must be a fraction of the images, above 0 and below 1')
  source = pathlib.Path(source)
  name = source.resolve().name if name is None else name
  if not name or set(name) & set('/\\'):
    raise UserError(f'name={name}: the prepared folder is named after it; give a name without '
                    'slashes')
  if name in MODULES:
    raise UserError(f'name={name}: is a data set of the package, which --config.data.name={name} '
                    'would go on to mean; give another name, as in --option name=my-data')
  files = image_folder.find_images(source)
  if not files.paths:
    raise UserError(f'{source} has no images, that is, files that end in '
                    f'{", ".join(image_folder.SUFFIXES)}')
  paths, left_out = files.paths, Counter(files.skipped())
  tables = _tables(source, captions, paths)
  found = (_of_tables(source, paths, tables, left_out) if tables else
           _beside(source, paths, left_out))
  splits = _splits(source, found, heldout, seed)
  class_names, several = _label(source, found, splits, labels)
  read = {_table_name(source, table): str(table) for table in tables}
  return CaptionedFolder(name, class_names, several, found, splits, flip, read, dict(left_out))


@dataclasses.dataclass
class FolderImage:
  """An image and what the files read so far say of it."""
  path: pathlib.Path
  captions: list[str]
  label: str | None = None
  labels: tuple[str, ...] | None = None
  split: str | None = None
  classes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class CaptionedFolder:
  """Implements `xmc_jax.prepare.original.Original`."""
  name: str
  class_names: tuple[str, ...]
  several_labels: bool
  images: Mapping[str, FolderImage]
  splits: Mapping[str, tuple[str, ...]]
  flip: str
  files: Mapping[str, str]
  left_out: Mapping[str, int]
  vocabulary = None

  @property
  def counts(self) -> dict[str, int]:
    """See `Original`."""
    return {split: len(names) for split, names in self.splits.items()}

  def examples(self, split: str, start: int, stop: int) -> Iterator[OriginalExample]:
    """See `Original`."""
    for name in self.splits[split][start:stop]:
      image = self.images[name]
      flippable = may_flip(image.captions) if self.flip == 'auto' else self.flip == 'always'
      yield OriginalExample(
          name, functools.partial(pathlib.Path.read_bytes, image.path), tuple(image.captions),
          image.classes, flippable=flippable)


def _tables(source: pathlib.Path, captions: str | None,
            paths: Mapping[str, pathlib.Path]) -> list[pathlib.Path]:
  """Returns the table named by the option, or that of the folder, or those of folders below it."""
  if captions is not None:
    path = next((path for path in (source / captions, pathlib.Path(captions)) if path.is_file()),
                None)
    if path is None:
      raise UserError(f'captions={captions}: there is no such file, nor {source / captions}')
    return [_within(source, path)]
  if own := _table_in(source):
    return [own]
  # Of the paths, for the names in `paths` may write accents in another way than the files do.
  below = {folder for path in paths.values() for folder in path.relative_to(source).parents}
  return [table for folder in sorted(below) if (table := _table_in(source / folder))]


def _within(source: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
  """A path that begins with `source` where the file lies below it, however it was written."""
  for top, whole in ((source.absolute(), path.absolute()), (source.resolve(), path.resolve())):
    if whole.is_relative_to(top):
      return source / whole.relative_to(top)
  return path


def _table_name(source: pathlib.Path, table: pathlib.Path) -> str:
  return table.relative_to(source).as_posix() if table.is_relative_to(source) else table.name


def _table_in(folder: pathlib.Path) -> pathlib.Path | None:
  found = [folder / name for name in TABLES if (folder / name).is_file()]
  if len(found) > 1:
    raise UserError(f'{folder} has several tables of captions, '
                    f'{", ".join(path.name for path in found)}; name one with captions=FILE')
  return found[0] if found else None


def _beside(source: pathlib.Path, paths: Mapping[str, pathlib.Path],
            left_out: Counter[str]) -> dict[str, FolderImage]:
  """Returns the images that have captions in the text files next to them, or in text/."""
  users, found, texts_in = {}, {}, functools.cache(_texts_in)
  for name, path in paths.items():
    folders = [path.parent]
    if name.startswith('images/'):
      folders.append(source / 'text' / path.parent.relative_to(source / 'images'))
    files = [file for folder in folders if (file := texts_in(folder).get(_stem(path)))]
    if files and (other := users.setdefault(files[0], name)) != name:
      raise UserError(f'{name} and {other} would share the captions of {files[0].name}; rename '
                      'or remove one of them')
    captions = [clean(line) for line in read_lines(files[0])] if files else []
    captions = list(filter(None, captions))
    if captions:
      found[name] = FolderImage(path, captions)
  _count_uncaptioned(paths, found, left_out)
  if not found:
    other = next((path for folder in dict.fromkeys((source, *(p.parent for p in paths.values())))
                  for path in sorted(folder.iterdir())
                  if path.stem in ('captions', 'metadata') and path.name not in TABLES), None)
    there = f' in files that are read ({other} is not)' if other else ''
    raise UserError(
      f'{source} has {len(paths):,} images and no captions{there}; write them in text files next '
      f'to the images, such as {next(iter(paths.values())).stem}.txt, one per line, or in a table '
      'captions.csv with the columns file and caption')
  return found


def _texts_in(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """The files of captions in a folder by their stems: .txt, else .caption, in any case."""
  found = {}
  for path in sorted(folder.iterdir()) if folder.is_dir() else []:
    kind = path.suffix.lower()
    if kind in TEXTS and path.is_file() and (kind == TEXTS[0] or _stem(path) not in found):
      found[_stem(path)] = path
  return found


def _stem(path: pathlib.Path) -> str:
  """The name without its suffix; accents are written alike whichever system wrote it."""
  return unicodedata.normalize('NFC', path.stem)


def _of_tables(source: pathlib.Path, paths: Mapping[str, pathlib.Path],
               tables: Sequence[pathlib.Path], left_out: Counter[str]) -> dict[str, FolderImage]:
  """Returns the images that have captions in tables, in the order of their lines."""
  found = {}
  for table in tables:
    inside = table.parent if table.parent.is_relative_to(source) else source
    missing = []
    for line in caption_tables.read(table):
      name = next((name for name in (_below(source, line.file, inside), _below(source, line.file))
                   if name in paths), None)
      if name is None:
        missing.append(line)
        continue
      image = found.setdefault(name, FolderImage(paths[name], []))
      new = [text for text in dict.fromkeys(line.captions) if text not in image.captions]
      left_out['captions that an image has twice'] += len(line.captions) - len(new)
      left_out['captions without a word'] += line.empty
      image.captions += new
      for what in ('label', 'labels', 'split'):
        _agree(line, image, what)
    if missing:
      raise UserError(_missing(source, paths, table, missing))
  captioned = {name: image for name, image in found.items() if image.captions}
  if not captioned:
    raise UserError(f'{", ".join(map(str, tables))} has no caption')
  _count_uncaptioned(paths, captioned, left_out)
  for why in [why for why, count in left_out.items() if not count]:
    del left_out[why]
  return captioned


def _below(source: pathlib.Path, file: str, folder: pathlib.Path | None = None) -> str:
  """Returns the name of an image from its path below `folder` (by default `source`) in a table.

  The path may be absolute, or one of Windows.
  """
  path = pathlib.PurePath(os.path.normpath(file.replace('\\', '/')))
  # With the links of its path, or without.
  own = [top for top in (source.absolute(), source.resolve()) if path.is_relative_to(top)]
  if own:
    path = path.relative_to(own[0])
  elif folder is not None:
    path = pathlib.PurePath(os.path.normpath(folder.relative_to(source) / path))
  return unicodedata.normalize('NFC', path.as_posix())


def _agree(line: caption_tables.CaptionRow, image: FolderImage, what: str) -> None:
  """Takes the field `what` of a line; UserError if an earlier line of the image contradicts it."""
  known, value = getattr(image, what), getattr(line, what)
  if value is not None and known is not None and value != known:
    raise UserError(f'{line.where}: {line.file} has the {what} {value!r}, and {known!r} on an '
                    'earlier line; make them agree')
  setattr(image, what, known if value is None else value)


def _missing(source: pathlib.Path, paths: Mapping[str, pathlib.Path], table: pathlib.Path,
             missing: list[caption_tables.CaptionRow]) -> str:
  line = missing[0]
  last = pathlib.PurePath(_below(source, line.file)).name.lower()
  near = next((name for name in paths if name.rpartition('/')[2].lower() == last), None)
  hint = f'is {near} meant?' if near else 'add the files, or remove these lines'
  count = len({one.file for one in missing})
  return (f'{table} names images that are not in {source}, {count:,} in all, first {line.file} '
          f'on line {line.where.rpartition(" ")[2]}; {hint}')


def _count_uncaptioned(paths: Mapping[str, Any], captioned: Mapping[str, Any],
                       left_out: Counter[str]) -> None:
  bare = [name for name in paths if name not in captioned]
  if bare:
    names = ', '.join(bare[:3]) + (', …' if len(bare) > 3 else '')
    left_out[f'images without a caption ({names})'] = len(bare)


def _splits(source: pathlib.Path, found: Mapping[str, FolderImage], heldout: float,
            seed: int) -> dict[str, tuple[str, ...]]:
  """Returns {split: names of its images} and sets `FolderImage.split` of each image."""
  below = _below_images(found)
  tops = {name: below(name).partition('/')[0].lower() if '/' in below(name) else ''
          for name in found}
  if any(image.split for image in found.values()):
    named, where = {name: image.split for name, image in found.items()}, 'the column split'
  elif {'train', 'heldout'} <= {SPLITS.get(top) for top in tops.values()}:
    named, where = tops, f'the folders in {source}'
  else:
    named = {name: 'heldout' if _share(name, seed) < heldout else 'train' for name in found}
    where = f'heldout={heldout} and seed={seed}'
  splits = {'train': [], 'heldout': []}
  for name, given in named.items():
    split = SPLITS.get((given or '').lower())
    if split is None:
      raise UserError(f'{name} is in no known split, according to {where}'
                      f'{f" ({given})" if given else ""}; each image needs one of '
                      f'{", ".join(SPLITS)}')
    found[name].split = split
    splits[split].append(name)
  for split, names in splits.items():
    if not names:
      raise UserError(f'{source}: according to {where}, none of the {len(found):,} images is in '
                      f'the {split} split; change that, or add images')
  return {split: tuple(names) for split, names in splits.items()}


def _below_images(names: Iterable[str]) -> Callable[[str], str]:
  """Paths without the folder images/ where all are below it, as in the layout images/ and text/."""
  prefix = 'images/' if all(name.startswith('images/') for name in names) else ''
  return lambda name: name.removeprefix(prefix)


def _share(name: str, seed: int) -> float:
  """Returns a number in [0, 1) that depends on a name and a seed alone."""
  digest = hashlib.sha256(f'{seed}/{name}'.encode('utf-8', 'surrogateescape')).digest()
  return int.from_bytes(digest[:6], 'big') / 2**48


def _label(source: pathlib.Path, found: Mapping[str, FolderImage], splits: Mapping[str, Any],
           labels: str) -> tuple[tuple[str, ...], bool]:
  """Sets the classes of each image; returns their names and whether an image may have several."""
  several = labels == 'column' and any(one.labels is not None for one in found.values())
  if labels == 'folders':
    below = _below_images(found)
    folders = {name: below(name).split('/')[:-1] for name in found}
    # Below folders of splits; a class may be called so as well.
    start = int(all(those and those[0].lower() in SPLITS for those in folders.values()))
    own = {name: those[start:start + 1] for name, those in folders.items()}
  elif several:
    if both := next((name for name, image in found.items() if image.label), None):
      raise UserError(f'{source}: {both} has a label, and others have labels; use one of the two '
                      'columns for all images, or labels=none')
    own = {name: image.labels or () for name, image in found.items()}
  elif labels == 'column' and any(image.label for image in found.values()):
    own = {name: (image.label,) if image.label else () for name, image in found.items()}
  else:
    return (), True
  bare = [name for name, those in own.items() if not those]
  if bare and not several:
    raise UserError(f'{source} has images without a label, {len(bare):,} in all, first '
                    f'{bare[0]}; label each image, or use labels=none')
  class_names = sorted({one for those in own.values() for one in those})
  numbers = {name: number for number, name in enumerate(class_names)}
  for name, those in own.items():
    found[name].classes = tuple(sorted({numbers[one] for one in those}))
  return tuple(class_names), several
