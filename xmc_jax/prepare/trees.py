"""Lists and texts by their paths, in a folder or in a zip of one."""
from __future__ import annotations

import io
import pathlib
import zipfile
import zlib

from xmc_jax.types import UserError


class Tree:
  """Small files below a folder, or in a zip, in its top folder too.

  path  of the folder or zip, for messages
  """

  def __init__(self, path: pathlib.Path, packed: bytes | None = None):
    """`packed`: the zip itself, where it is inside of another one.

    Raises:
      UserError: if the path is neither a folder nor a zip.
    """
    self.path = path
    self._archive = None
    if path.is_dir():
      return
    try:
      self._archive = zipfile.ZipFile(io.BytesIO(packed) if packed is not None else path)
    except (OSError, zipfile.BadZipFile) as error:
      raise UserError(f'{path} is neither a folder nor a whole zip ({error}); download or give it '
                      'again.') from error
    self._members = set(self._archive.namelist())
    self._tops = ('', *sorted({name.partition('/')[0] + '/' for name in self._members
                               if '/' in name and not name.startswith('__MACOSX/')}))

  def read(self, name: str) -> bytes | None:
    """A whole file, or None where there is none of this name.

    Raises:
      UserError: if it cannot be read.
    """
    try:
      if self._archive is None:
        return (self.path / name).read_bytes()
      member = self._member(name)
      return None if member is None else self._archive.read(member)
    except FileNotFoundError:
      return None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
      raise UserError(f'{name} in {self.path} cannot be read ({error}); download it '
                      'again.') from error

  def has_folder(self, name: str) -> bool:
    """Whether there is a folder of this name with something in it."""
    if self._archive is None:
      return any((self.path / name).glob('*'))
    starts = tuple(f'{top}{name}/' for top in self._tops)
    return any(member.startswith(starts) for member in self._members)

  def inner(self, name: str) -> Tree | None:
    """A zip that lies in here, or None."""
    if self._archive is None:
      return Tree(self.path / name) if (self.path / name).is_file() else None
    packed = self.read(name)
    return None if packed is None else Tree(self.path / name, packed)

  def file(self, name: str) -> pathlib.Path:
    """What to name, and to hash, when `name` has been read: the file, or the zip that has it."""
    return self.path / name if self._archive is None else self.path

  def _member(self, name: str) -> str | None:
    return next((top + name for top in self._tops if top + name in self._members), None)
