"""Downloaded files, zipped or unpacked in folders.

Images are read one at a time, by name. Zips are not unpacked: COCO's hold 120,000 JPEGs without
compression, and reading a member costs about as much as opening a file.
"""
from __future__ import annotations

import os
import pathlib
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence

from xmc_jax.prepare.original import BadImage
from xmc_jax.types import UserError
from xmc_jax.utils import regular

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def find(source: pathlib.Path, names: Sequence[str], published: str) -> pathlib.Path:
  """Returns the first of several paths below `source` that exists.

  Args:
    source: folder that the user gave.
    names: paths below it, the preferred one first.
    published: address to download it from.

  Raises:
    UserError: the folder does not exist, or has none of them.
  """
  if not source.is_dir():
    raise UserError(f'{source} is not a folder; give the folder that holds {names[0]}, from '
                    f'{published}')
  for name in names:
    if (source / name).exists():
      return source / name
  others = f' (nor {", ".join(names[1:])})' if names[1:] else ''
  raise UserError(f'{source} has no {names[0]}{others}; download it from {published} into that '
                  'folder')


def read(path: pathlib.Path, name: str) -> bytes:
  """Returns the bytes of a file: `path` itself, or its member `name` if it is a zip.

  Raises:
    UserError: the zip lacks the member, or either is damaged.
  """
  try:
    if path.suffix != '.zip':
      return regular.read(path)
    with _open(path) as archive:
      return archive.read(name)
  except KeyError as error:
    raise UserError(f'{path} has no member {name}; download it again') from error
  except _DAMAGE as error:
    raise _damaged(path, error) from error


class ImageStore:
  """Random access by file name to the images of several folders and zips.

  Can be pickled and shared by threads. Every process opens the zips at its first image, which takes
  half a second for 80,000 members.
  """

  def __init__(self, places: Iterable[pathlib.Path]):
    """`places` are folders, whose subfolders are not searched, and zips, searched at any depth."""
    self.places = tuple(places)
    self._lock = threading.Lock()
    self._process, self._readers = None, ()

  def __getstate__(self):
    return self.places

  def __setstate__(self, places):
    self.__init__(places)

  def check(self) -> None:
    """Opens every zip once.

    Raises:
      UserError: a place does not exist, or a zip is damaged or incomplete.
    """
    for place in self.places:
      if not place.exists():
        raise UserError(f'{place} does not exist; give its folder again')
      if not place.is_dir():
        _open(place).close()

  def names(self) -> set[str]:
    """Returns the names of all files."""
    found = set()
    for place in self.places:
      if place.is_dir():
        found |= {entry.name for entry in os.scandir(place)}
      else:
        with _open(place) as archive:
          found |= {name.rpartition('/')[2] for name in archive.namelist()}
    return found

  def read(self, name: str) -> bytes:
    """Returns the bytes of an image.

    Raises:
      BadImage: there is no such image, or its checksum in the zip is wrong.
      UserError: a zip has several that differ, in different folders.
    """
    for reader in self._open_readers():
      found = reader(name)
      if found is not None:
        return found
    raise BadImage(f'{name} is not in {", ".join(str(place) for place in self.places)}')

  def _open_readers(self) -> Sequence[Callable[[str], bytes | None]]:
    # After a fork both processes would share the position of an open file.
    with self._lock:
      if self._process != os.getpid():
        self._readers = [_in_folder(place) if place.is_dir() else _in_zip(place)
                         for place in self.places]
        self._process = os.getpid()
      return self._readers


def _in_folder(place: pathlib.Path) -> Callable[[str], bytes | None]:
  def reader(name: str) -> bytes | None:
    path = place / name
    return path.read_bytes() if path.is_file() else None     # a pipe would never end
  return reader


def _in_zip(place: pathlib.Path) -> Callable[[str], bytes | None]:
  archive = _open(place)
  members: dict[str, list[zipfile.ZipInfo]] = {}
  for info in archive.infolist():
    members.setdefault(info.filename.rpartition('/')[2], []).append(info)

  def reader(name: str) -> bytes | None:
    found = members.get(name)
    if found is None:
      return None
    if len({(info.CRC, info.file_size) for info in found}) > 1:
      raise UserError(f'{place} has several files {name}: '
                      f'{", ".join(sorted(info.filename for info in found))}; keep the right one')
    try:
      return archive.read(found[0])
    except _DAMAGE as error:
      raise BadImage(f'{name} in {place} is damaged ({error})') from error
  return reader


def _open(path: pathlib.Path) -> zipfile.ZipFile:
  regular.check(path)
  try:
    return zipfile.ZipFile(path)
  except zipfile.BadZipFile as error:
    raise _damaged(path, error) from error


def _damaged(path: pathlib.Path, error: Exception) -> UserError:
  return UserError(f'{path} is damaged or incomplete ({error}); download it again')
