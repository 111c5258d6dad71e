"""The stamps of Tux Paint: small drawings and photographs for children, a sentence each.

The folder holds Debian's package, GPL-2, as `apt-get download tuxpaint-stamps-default` saves it, or
https://packages.debian.org/tuxpaint-stamps-default offers it. A stamp is an image with a text of
the same name beside it, whose first line is English, and marks in a .dat file.

The captions are the whole text, its first sentence, and that with the folders ("An owl, animals,
birds"). The label is the folder, two levels deep. A tenth is held out, by a hash of the first
sentence, so that stamps with one text are on one side. What is clear around a stamp is cut off, and
the rest put into the middle of a white square. Left out are the folder of symbols (letters, digits,
money), drawings in SVG, which Pillow does not read, and what Tux Paint shows in place of a mirror
image.
"""
from __future__ import annotations

import functools
import hashlib
import io
import pathlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping

from PIL import Image

from xmc_jax.prepare import packages
from xmc_jax.prepare.captions import clean, may_flip
from xmc_jax.prepare.original import BadImage, Original, Raw
from xmc_jax.types import UserError

PACKAGE = 'tuxpaint-stamps-default'
STAMPS = 'usr/share/tuxpaint/stamps/'
HELDOUT = 10     # one of so many first sentences is held out
MARGIN = 0.04    # of white on every side, in sides of the square
FAINTEST = 250   # an image without a darker pixel is nothing but white
_SUFFIXES = ('.png', '.svg', '.txt', '.dat')
_MIRROR = '_mirror'
_END = re.compile(r'[.!?…]+["”’]?(?=\s|$)')


def open(source: pathlib.Path) -> Original:
  """Opens the data set in the folder of the package.

  Raises:
    UserError: if the package is missing or damaged, or holds no stamps.
  """
  return TuxPaint(packages.debian(pathlib.Path(source), PACKAGE))


class TuxPaint:
  """See `xmc_jax.prepare.original.Original`. Holds the files of the images, 25 MB."""
  name = 'tuxpaint'
  several_labels = False
  vocabulary = None

  def __init__(self, path: pathlib.Path):
    self.files = {path.name: str(path)}
    inside = lambda name: name.startswith(STAMPS) and name.endswith(_SUFFIXES)
    files = {name.removeprefix(STAMPS): data
             for name, data in packages.read(path, inside).items()}
    self.left_out, stamps = _choose(files)
    if not stamps:
      raise UserError(f'{path} has no stamps below {STAMPS}; download {PACKAGE} again.')
    texts = {stem: english(files[f'{stem}.txt']) for stem in stamps}
    rows = [(stem, text, _may_mirror(stem, text, files), files[f'{stem}.png'])
            for stem, text in texts.items()]
    self._rows = {split: [row for row in rows if is_heldout(row[1]) == (split == 'heldout')]
                  for split in ('train', 'heldout')}
    self.class_names = tuple(sorted({folder(stem) for stem in stamps}))
    self.counts = {split: len(rows) for split, rows in self._rows.items()}

  def examples(self, split: str, start: int, stop: int) -> Iterator[Raw]:
    """See `Original`."""
    for stem, text, flippable, data in self._rows[split][start:stop]:
      yield Raw(f'{stem}.png', functools.partial(square, data), write_captions(text, stem),
                (self.class_names.index(folder(stem)),), flippable=flippable)


def _choose(files: Mapping[str, bytes]) -> tuple[dict[str, int], list[str]]:
  """What is left out, {why: how many}, and the names of the stamps without their suffix, sorted."""
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
  """The first line of a stamp's text, which is English; the other lines are "LANGUAGE.utf8=…"."""
  line = text.decode('utf-8-sig', 'replace').partition('\n')[0]
  return '' if re.match(r'\w+\.utf8=', line) else clean(line)


def first_sentence(text: str) -> str:
  """Up to the first full stop, "!" or "?" that a space or the end follows."""
  end = _END.search(text)
  return text[:end.end()] if end else text


def folder(stem: str) -> str:
  """The class of a stamp: its folder, two levels deep at most."""
  return '/'.join(stem.split('/')[:-1][:2])


def write_captions(text: str, stem: str) -> tuple[str, ...]:
  """The two or three captions of a stamp, each once."""
  first = first_sentence(text)
  folders = [part.replace('_', ' ') for part in stem.split('/')[:-1]]
  return tuple(dict.fromkeys((text, first, ', '.join([first.rstrip('.!?… '), *folders]))))


def is_heldout(text: str) -> bool:
  """Whether the stamps with this text are held out."""
  digest = hashlib.sha256(first_sentence(text).encode()).digest()
  return int.from_bytes(digest[:8], 'big') % HELDOUT == 0


def _may_mirror(stem: str, text: str, files: Mapping[str, bytes]) -> bool:
  """Whether Tux Paint mirrors the stamp ("noflip" is about upside down), and its text allows it."""
  marks = files.get(f'{stem}.dat', b'').decode('latin-1').split()
  has_other = any(f'{stem}{_MIRROR}{suffix}' in files for suffix in ('.png', '.svg'))
  return 'nomirror' not in marks and not has_other and may_flip([text])


def square(data: bytes) -> bytes:
  """A PNG of an image without its clear edges, in the middle of a white square.

  Raises:
    BadImage: if it cannot be decoded, or there is nothing to be seen on white.
  """
  try:
    with Image.open(io.BytesIO(data)) as file:
      image = file.convert('RGBA')
  except Exception as error:  # Pillow raises all kinds for files that it cannot decode
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
    raise BadImage('it is as white as the ground')
  flat.save(whole, 'PNG')
  return whole.getvalue()
