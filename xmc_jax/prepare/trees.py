"""Small files by their paths, in a folder or in a zip of one."""
from __future__ import annotations

import io
import pathlib
import zipfile
import zlib

from xmc_jax.types import UserError
from xmc_jax.utils import regular


class Tree:
  """Small files below a folder or in a zip; in a zip also below its top folders.

  Attributes:
    path: of the folder or zip, for messages.
  """

  def __init__(self, path: pathlib.Path, packed: bytes | None = None):
    """`packed` are the bytes of the zip, if it is inside another one.

    Raises:
      UserError: the path is neither a folder nor a zip.
    """
    self.path = path
    self._archive = None
    if path.is_dir():
      return
    try:
      self._archive = zipfile.ZipFile(io.BytesIO(packed) if packed is not None else path)
    except (OSError, zipfile.BadZipFile) as error:
      raise UserError(f'{path} is neither a folder nor a complete zip ({error}); download it '
                      'again, or give another path') from error
    self._members = set(self._archive.namelist())
    self._tops = ('', *sorted({name.partition('/')[0] + '/' for name in self._members
                               if '/' in name and not name.startswith('__MACOSX/')}))

  def read(self, name: str) -> bytes | None:
    """Returns the bytes of a file, or None if there is none of this name.

    Raises:
      UserError: the file cannot be read.
    """
    try:
      if self._archive is None:
        return regular.read(self.path / name)
      member = self._member(name)
      return None if member is None else self._archive.read(member)
    except FileNotFoundError:
      return None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
      raise UserError(f'{name} in {self.path} cannot be read ({error}); download it '
                      'again') from error

  def has_folder(self, name: str) -> bool:
    """Whether there is a folder of this name that is not empty."""
    if self._archive is None:
      return any((self.path / name).glob('*'))
    starts = tuple(f'{top}{name}/' for top in self._tops)
    return any(member.startswith(starts) for member in self._members)

  def inner(self, name: str) -> Tree | None:
    """Returns the tree of a zip inside this one, or None."""
    if self._archive is None:
      return Tree(self.path / name) if (self.path / name).is_file() else None
    packed = self.read(name)
    return None if packed is None else Tree(self.path / name, packed)

  def file(self, name: str) -> pathlib.Path:
    """Returns the path to hash for `name`: that of the file, or of the zip that contains it."""
    return self.path / name if self._archive is None else self.path

  def _member(self, name: str) -> str | None:
    return next((top + name for top in self._tops if top + name in self._members), None)
