"""Folders of image files: which files count as images, in which order, and how they are opened.

One set of rules for `xmc prepare folder` and `xmc compare`:

  - An image is a file with one of `SUFFIXES`, in upper or lower case, at any depth. Images of other
    kinds, `UNREAD`, are counted.
  - Files and folders whose names start with "." are skipped and counted ("._a.png" of macOS,
    ".ipynb_checkpoints"), and so are "__MACOSX" and "@eaDir" of a NAS. Hidden files that are no
    images are not counted.
  - The order is that of the paths below the folder, as strings with "/" between the parts.
  - Symbolic links to files and to folders are followed. A link to a folder that contains it would
    never end, and is an error.
  - Images are turned upright by their EXIF orientation; transparent ones are put on white.
"""
from __future__ import annotations

import dataclasses
import errno
import os
import pathlib
import unicodedata
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image, TiffImagePlugin

from xmc_jax.types import UserError

SUFFIXES = ('.jpg', '.jpeg', '.jfif', '.png', '.webp', '.gif', '.bmp', '.tif', '.tiff')
UNREAD = ('.heic', '.heif', '.avif', '.jxl', '.jp2', '.svg', '.psd', '.tga', '.ppm', '.raw', '.dng')
_ORIENTATION = 0x0112     # EXIF tag
# What undoes an orientation. ImageOps.exif_transpose leaves an image as it is if another tag of its
# EXIF block cannot be written again.
_UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_90}


@dataclasses.dataclass(frozen=True)
class ImageFiles:
  """The images of a folder.

  Attributes:
    paths: {name: path} in order. The name is the path below the folder with "/", in Unicode's
      composed form (NFC), so that it is the same on every file system.
    hidden_files: number of hidden image files that were skipped.
    hidden_folders: number of hidden folders that were skipped, whatever they contain.
    special_files: number of entries named like images that are no files: pipes, sockets and
      devices. To open a pipe would wait for a writer forever.
    unread: number of images of kinds that are not read.
  """
  paths: Mapping[str, pathlib.Path]
  hidden_files: int
  hidden_folders: int
  special_files: int
  unread: int

  def skipped(self) -> dict[str, int]:
    """{what was skipped: how many}, without zeros; for messages."""
    counts = {'hidden image files': self.hidden_files, 'hidden folders': self.hidden_folders,
              'pipes and devices named like images': self.special_files,
              f'images of kinds that are not read ({", ".join(UNREAD[:3])}, …)': self.unread}
    return {what: count for what, count in counts.items() if count}


def find_images(folder: str | os.PathLike[str], flag: str = '') -> ImageFiles:
  """Lists the images below a folder.

  Args:
    folder: to search.
    flag: the command-line flag that named the folder, such as "--images"; starts error messages.

  Raises:
    UserError: there is no such folder, a folder cannot be read, a link leads to a folder that
      contains it, or two names differ in their Unicode form only.
  """
  folder, prefix = pathlib.Path(folder).expanduser(), f'{flag}: ' if flag else ''
  if not folder.is_dir():
    raise UserError(f'{prefix}{folder} is not a folder; give the folder of the images, unpacked')
  paths, hidden_files, hidden_folders, special, unread = {}, 0, 0, 0, 0
  try:
    for path, is_folder in _walk(folder, frozenset()):
      if _is_hidden(path.name):
        hidden_folders += is_folder
        hidden_files += not is_folder and is_image(path.name)
      elif not is_folder and is_image(path.name) and path.exists() and not path.is_file():
        special += 1
      elif not is_folder and path.suffix.lower() in UNREAD:
        unread += 1
      elif not is_folder and is_image(path.name):
        # Names of another encoding than UTF-8 get a form that can be printed and stored.
        name = os.fsencode(path.relative_to(folder).as_posix()).decode('utf-8', 'backslashreplace')
        name = unicodedata.normalize('NFC', name)
        if name in paths:
          raise UserError(f'{paths[name]} and {path} have the same name but for its Unicode form; '
                          'rename one of them')
        paths[name] = path
  except UserError as error:
    raise UserError(f'{prefix}{error}') from error
  except OSError as error:
    then = 'remove the link' if error.errno == errno.ELOOP else 'check the permissions'
    raise UserError(f'{prefix}{error.filename}: cannot be read ({error.strerror}); {then}'
                    ) from error
  return ImageFiles(dict(sorted(paths.items())), hidden_files, hidden_folders, special,
                    unread)


def is_image(name: str) -> bool:
  """Whether the suffix of a file's name is one of `SUFFIXES`."""
  return os.path.splitext(name)[1].lower() in SUFFIXES


def _is_hidden(name: str) -> bool:
  return name.startswith('.') or name in ('__MACOSX', '@eaDir')


def _walk(folder: pathlib.Path, above: frozenset[str]) -> Iterator[tuple[pathlib.Path, bool]]:
  """Yields (path, whether it is a folder) of all entries; does not enter hidden folders."""
  real = os.path.realpath(folder)
  if real in above:
    raise UserError(f'{folder} is a link to a folder that contains it; remove the link')
  with os.scandir(folder) as entries:
    found = [(pathlib.Path(entry.path), entry.is_dir()) for entry in entries]
  for path, is_folder in found:
    yield path, is_folder
    if is_folder and not _is_hidden(path.name):
      yield from _walk(path, above | {real})


def upright(image: Image.Image) -> Image.Image:
  """Decodes an image and applies its EXIF orientation; returns the same object if there is none.

  Raises:
    ValueError: the range of the values is unknown, see `_check_range`.
  """
  image.load()
  _check_range(image)
  try:
    way = _UPRIGHT.get(image.getexif().get(_ORIENTATION))
  except MemoryError:
    raise
  except Exception:      # a damaged EXIF block does not spoil the pixels
    way = None
  return image if way is None else image.transpose(way)


def _check_range(image: Image.Image) -> None:
  """ValueError for a TIFF of more than 8 bits whose values are all below 4096.

  Cameras of 8 to 12 bits write such files, of which the upper 8 bits would be a black image, or a
  white one of inks. Of colors Pillow has read the upper 8 bits only, so an image without any is
  refused with them.
  """
  if image.format != 'TIFF' or image.mode.startswith('F'):      # floats have none anyway
    return
  if image.mode.startswith('I'):
    dark = 0 < np.asarray(image).max() < 4096
  else:
    bits = max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,)))
    colors = [x for x, band in zip(image.split(), image.getbands()) if band not in 'Aa']
    dark = bits > 8 and max(np.asarray(color).max() for color in colors) < 16
  if dark:
    raise ValueError('a TIFF of more than 8 bits whose values are all below 4096 has no known '
                     'range; save it with 8 bits')


def to_rgb(image: Image.Image) -> Image.Image:
  """Converts an image of any mode to RGB; an RGB image is returned as it is.

  Transparency is put on white. Of 16-bit values the upper 8 bits are kept.

  Raises:
    ValueError: the pixels are floats, or integers beyond 16 bits.
  """
  if image.mode.startswith(('I', 'F')):
    values = np.asarray(image)
    if values.dtype.kind == 'f' or values.min() < 0 or values.max() > 0xffff:
      raise ValueError(f'pixels of mode {image.mode} have no known range')
    clear = values == image.info.get('transparency', -1)
    image = Image.fromarray(np.where(clear, 255, values >> 8).astype(np.uint8))
  if image.has_transparency_data:
    image = image.convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    return Image.alpha_composite(white, image).convert('RGB')
  return image if image.mode == 'RGB' else image.convert('RGB')
