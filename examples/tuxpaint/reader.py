"""Reader of Tux Paint's stamps: small drawings and photographs, one English sentence each.

Reads Debian's package `tuxpaint-stamps-default` (GPL-2, a .deb). A stamp is an image, a text file
of the same name whose first line is English, and flags in a .dat file.

Captions: the whole text, its first sentence, and the first sentence with the names of the folders
("An owl, animals, birds"). Label: the folder, two levels deep. One tenth is held out by a hash of
the first sentence, so stamps with the same text are in the same split. Transparent edges are
cropped and the rest is centered on a white square.

Left out and counted: the folder of symbols (letters, digits, money), SVG drawings, which Pillow
does not read, and images that Tux Paint shows in place of a mirror image.
"""
from __future__ import annotations

import functools
import hashlib
import io
import pathlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping

import package_archives
from PIL import Image

from xmc_jax.prepare.captions import clean, may_flip
from xmc_jax.prepare.original import BadImage, Original, OriginalExample
from xmc_jax.prepare.readers import Dataset
from xmc_jax.types import UserError

PACKAGE = 'tuxpaint-stamps-default'
DATASET = Dataset(__name__, "Tux Paint's stamps with their descriptions",
                  f'https://packages.debian.org/{PACKAGE}', size=128, codec='png')
STAMPS = 'usr/share/tuxpaint/stamps/'
HELDOUT = 10     # one first sentence in this many is held out
MARGIN = 0.04    # white margin on every side, as a fraction of the square's side
FAINTEST = 250   # an image whose darkest value is above this shows nothing on white
_SUFFIXES = ('.png', '.svg', '.txt', '.dat')
_MIRROR = '_mirror'
_END = re.compile(r'[.!?…]+["”’]?(?=\s|$)')


def open(source: pathlib.Path) -> Original:
  """Opens the data set in the folder that holds the package.

  Raises:
    UserError: the package is missing or damaged, or contains no stamps.
  """
  return TuxPaint(package_archives.debian(pathlib.Path(source), PACKAGE))


class TuxPaint:
  """Implements `xmc_jax.prepare.original.Original`. Keeps the image files in memory, 25 MB."""
  name = 'tuxpaint'
  several_labels = False
  vocabulary = None

  def __init__(self, path: pathlib.Path):
    self.files = {path.name: str(path)}
    inside = lambda name: name.startswith(STAMPS) and name.endswith(_SUFFIXES)
    files = {name.removeprefix(STAMPS): data
             for name, data in package_archives.read(path, inside).items()}
    self.left_out, stamps = _choose(files)
    if not stamps:
      raise UserError(f'{path} has no stamps below {STAMPS}; download {PACKAGE} again')
    texts = {stem: english(files[f'{stem}.txt']) for stem in stamps}
    rows = [(stem, text, _may_mirror(stem, text, files), files[f'{stem}.png'])
            for stem, text in texts.items()]
    self._rows = {split: [row for row in rows if is_heldout(row[1]) == (split == 'heldout')]
                  for split in ('train', 'heldout')}
    self.class_names = tuple(sorted({folder(stem) for stem in stamps}))
    self.counts = {split: len(rows) for split, rows in self._rows.items()}

  def examples(self, split: str, start: int, stop: int) -> Iterator[OriginalExample]:
    """See `Original`."""
    for stem, text, flippable, data in self._rows[split][start:stop]:
      yield OriginalExample(
          f'{stem}.png', functools.partial(square, data), write_captions(text, stem),
          (self.class_names.index(folder(stem)),), flippable=flippable)


def _choose(files: Mapping[str, bytes]) -> tuple[dict[str, int], list[str]]:
  """Returns {reason: how many files are left out} and the sorted stems of the stamps."""
  left_out, stamps = Counter(), []
  for name in sorted(files):
    stem, suffix = name[:-4], name[-4:]
    if suffix not in ('.png', '.svg'):
      continue
    if name.startswith('symbols/'):
      left_out['symbols'] += 1
    elif stem.endswith(_MIRROR):
      left_out['images in place of a mirror image'] += 1
    elif suffix == '.svg':
      twin = f'{stem}.png' in files
      left_out['SVG drawings of stamps that are there as PNG' if twin else 'SVG drawings'] += 1
    elif not english(files.get(f'{stem}.txt', b'')):
      left_out['stamps without a text'] += 1
    else:
      stamps.append(stem)
  return dict(left_out), stamps


def english(text: bytes) -> str:
  """Returns the first line of a stamp's text, in English; later lines are "LANGUAGE.utf8=…"."""
  line = text.decode('utf-8-sig', 'replace').partition('\n')[0]
  return '' if re.match(r'\w+\.utf8=', line) else clean(line)


def first_sentence(text: str) -> str:
  """Returns the text up to the first ".", "!" or "?" before white space or the end."""
  end = _END.search(text)
  return text[:end.end()] if end else text


def folder(stem: str) -> str:
  """Returns the class of a stamp: its folder, at most two levels deep."""
  return '/'.join(stem.split('/')[:-1][:2])


def write_captions(text: str, stem: str) -> tuple[str, ...]:
  """Returns the two or three captions of a stamp, without repetitions."""
  first = first_sentence(text)
  folders = [part.replace('_', ' ') for part in stem.split('/')[:-1]]
  return tuple(dict.fromkeys((text, first, ', '.join([first.rstrip('.!?… '), *folders]))))


def is_heldout(text: str) -> bool:
  """Whether the stamps with this text are held out."""
  digest = hashlib.sha256(first_sentence(text).encode()).digest()
  return int.from_bytes(digest[:8], 'big') % HELDOUT == 0


def _may_mirror(stem: str, text: str, files: Mapping[str, bytes]) -> bool:
  """Whether both Tux Paint and the text allow a mirror image ("noflip" means upside down)."""
  marks = files.get(f'{stem}.dat', b'').decode('latin-1').split()
  has_other = any(f'{stem}{_MIRROR}{suffix}' in files for suffix in ('.png', '.svg'))
  return 'nomirror' not in marks and not has_other and may_flip([text])


def square(data: bytes) -> bytes:
  """Returns the PNG of an image without transparent edges, centered on a white square.

  Raises:
    BadImage: it cannot be decoded, or shows nothing on white.
  """
  try:
    with Image.open(io.BytesIO(data)) as file:
      image = file.convert('RGBA')
  except Exception as error:  # Pillow raises many kinds of errors for broken files
    raise BadImage(f'{type(error).__name__}: {error}') from error
  box = image.getchannel('A').getbbox()
  if box is None:
    raise BadImage('nothing in it is opaque')
  image = image.crop(box)
  side = round(max(image.size) / (1 - 2 * MARGIN))
  white = Image.new('RGBA', (side, side), 'white')
  white.alpha_composite(image, tuple((side - extent) // 2 for extent in image.size))
  flat, whole = white.convert('RGB'), io.BytesIO()
  if min(low for low, _ in flat.getextrema()) > FAINTEST:
    raise BadImage('nothing in it differs from white')
  flat.save(whole, 'PNG')
  return whole.getvalue()
