"""Reader of emoji in three styles: 3d (Fluent), flat (Twemoji), shaded (Noto); six captions each.

Words and splits are those of the embedded set (`xmc_jax.data.embedded.emoji`): an emoji is held out
in all styles or in none, so a model trained on one set can be evaluated on the other. The source
folder holds three npm packages, as `npm pack` saves them:

  npm pack emoji-datasource-google@16.0.0     Noto Emoji, Apache-2.0; 64 px
  npm pack emoji-datasource-twitter@16.0.0    Twemoji, CC-BY-4.0; 64 px
  npm pack @lobehub/fluent-emoji-3d@1.1.0     Fluent Emoji of Microsoft, MIT; 256 px

The label is the subgroup ("animal-mammal"). Each example stores its style. Left out and counted:
skin tones, Fluent's country flags, which are drawn flat, and held-out images whose file is
identical to a training image's (Twemoji draws many families alike).
"""
from __future__ import annotations

import dataclasses
import functools
import io
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping

import package_archives
from PIL import Image

from xmc_jax.data.embedded import emoji, emoji_assets
from xmc_jax.data.embedded.emoji_colors import NAMED, colors
from xmc_jax.prepare.original import Original, OriginalExample
from xmc_jax.prepare.readers import Dataset
from xmc_jax.types import UserError

DATASET = Dataset(__name__, 'emoji in three styles: Noto, Twemoji and Fluent 3D',
                  'https://www.npmjs.com/package/emoji-datasource-google', size=64, codec='png')
_TONES = {f'{number:X}' for number in range(0x1F3FB, 0x1F400)}
# Variation selector and end of a flag's letters: code points that never distinguish two emoji.
_SILENT = {0xFE0F, 0xE007F}


@dataclasses.dataclass(frozen=True)
class Style:
  """One family of drawings.

  Attributes:
    word: its name in captions, as in "a flat style elephant".
    family: the proper name, as in "an elephant, a Twemoji emoji".
    package, version: of npm.
    folder: inside the package, with images named by hexadecimal code points.
    suffix: of the images.
    unlike: subgroups that the family draws in another style; left out.
  """
  word: str
  family: str
  package: str
  version: str
  folder: str
  suffix: str
  unlike: frozenset[str] = frozenset()


STYLES = (
    Style('shaded', 'Noto', 'emoji-datasource-google', '16.0.0', 'img/google/64/', '.png'),
    Style('3d', 'Fluent', '@lobehub/fluent-emoji-3d', '1.1.0', 'assets/', '.webp',
          frozenset(('country-flag', 'subdivision-flag'))),
    Style('flat', 'Twemoji', 'emoji-datasource-twitter', '16.0.0', 'img/twitter/64/', '.png'))


def open(source: pathlib.Path) -> Original:
  """Opens the data set in the folder that holds the three packages.

  Raises:
    UserError: a package is missing, damaged, of another version, or has none of the images.
  """
  return EmojiStyles(pathlib.Path(source))


class EmojiStyles:
  """Implements `xmc_jax.prepare.original.Original`. Keeps the image files in memory, 20 MB."""
  name = 'emoji_styles'
  several_labels = False
  vocabulary = None

  def __init__(self, source: pathlib.Path):
    records = emoji_assets.records()
    self.class_names = tuple(dict.fromkeys(record['subgroup'] for record in records))
    paths = [package_archives.npm(source, style.package, style.version) for style in STYLES]
    self.files = {path.name: str(path) for path in paths}
    left_out, found = Counter(), []
    for style, path in zip(STYLES, paths, strict=True):
      images = _read(path, style, left_out)
      found += [(code, style, data) for code, data in images.items()]
    place = {plain(record['hexcode']): i for i, record in enumerate(records)}
    found.sort(key=lambda one: (place[one[0]], STYLES.index(one[1])))
    self._rows = {split: [(records[place[code]], style, data) for code, style, data in found
                          if records[place[code]]['heldout'] == (split == 'heldout')]
                  for split in ('train', 'heldout')}
    seen = {data for _, _, data in self._rows['train']}
    unseen = [row for row in self._rows['heldout'] if row[2] not in seen]
    left_out['held-out images that training has too'] = len(self._rows['heldout']) - len(unseen)
    self._rows['heldout'] = unseen
    self.left_out = {why: count for why, count in left_out.items() if count}
    self.counts = {split: len(rows) for split, rows in self._rows.items()}

  def examples(self, split: str, start: int, stop: int) -> Iterator[OriginalExample]:
    """See `Original`."""
    for record, style, data in self._rows[split][start:stop]:
      name = f"{style.family}/{plain(record['hexcode'])}"
      captions = write_captions({**record, 'colours': _colors(record, data)}, style)
      yield OriginalExample(
          name, functools.partial(bytes, data), captions,
          (self.class_names.index(record['subgroup']),), flippable=emoji.may_flip(record),
          more={'style': style.word, 'hexcode': record['hexcode'], 'emoji': record['name'],
                'group': record['group']})


def plain(hexcode: str) -> str:
  """Returns code points in a canonical form: upper case, no leading zeros, no silent ones."""
  points = [int(part, 16) for part in hexcode.replace('_', '-').split('-')]
  return '-'.join(f'{point:X}' for point in points if point not in _SILENT)


def write_captions(record: Mapping, style: Style) -> tuple[str, ...]:
  """Returns the six captions of an image; `record` is one of `emoji_assets.records`."""
  phrase, word = record['phrase'], style.word
  article, _, rest = phrase.partition(' ')
  styled = f'a {word} style {rest}' if article in ('a', 'an') else f'{phrase} in {word} style'
  colored = emoji.with_colors(record)
  return (styled, f'an emoji of {phrase} in {word} style',
          f'{emoji.with_keywords(record)}, {word} style',
          f"a {word} picture of {phrase}, {record['kind']}",
          f'{colored}, {word} style' if colored else f'a small {word} drawing of {phrase}',
          f'{phrase}, a {style.family} emoji')


def _read(path: pathlib.Path, style: Style, left_out: Counter[str]) -> dict[str, bytes]:
  """Returns {code points: file bytes} of a package's images that have a record."""
  inside = lambda name: name.startswith(style.folder) and name.endswith(style.suffix)
  named = {plain(record['hexcode']): record for record in emoji_assets.records()}
  images = {}
  for name, data in package_archives.read_npm(path, style.package, style.version, inside).items():
    code = _code(name.removeprefix(style.folder).removesuffix(style.suffix))
    if code in images:
      why = 'second files of one emoji'
    elif code not in named:
      why = 'skin tones' if _TONES & set(code.split('-')) else 'images without a name'
    elif named[code]['subgroup'] in style.unlike:
      why = 'flags, in another style'
    else:
      images[code] = data
      continue
    left_out[f'{style.family}, {why}'] += 1
  if not images:
    raise UserError(f'{path} has no images {style.folder}*{style.suffix}; run `npm pack '
                    f'{style.package}@{style.version}` again')
  return images


def _code(stem: str) -> str:
  try:
    return plain(stem)
  except ValueError:
    return stem


def _colors(record: Mapping, data: bytes) -> list[str]:
  """Returns the colors of the image; none if the name has one, or if the file is broken."""
  if NAMED.search(record['name']):
    return []
  try:
    with Image.open(io.BytesIO(data)) as image:
      return colors(image.convert('RGBA').resize((64, 64), Image.Resampling.BOX))
  except Exception:  # Pillow raises many kinds of errors; the preparation reports the image
    return []
