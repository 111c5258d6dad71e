"""Reads packages of npm (.tgz) and of Debian (.deb) as their registries serve them.

A package is one compressed stream. The wanted files are read into memory in one pass (about a
second for 70 MB of gzip, ten for 160 MB of xz), so nothing is unpacked to disk.
"""
from __future__ import annotations

import gzip
import io
import json
import lzma
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from xmc_jax.types import UserError

_AR, _AR_HEADER = b'!<arch>\n', 60
_OPEN = {'.xz': lzma.open, '.gz': gzip.open}
_DAMAGE = (tarfile.TarError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError)


def npm(source: pathlib.Path, name: str, version: str) -> pathlib.Path:
  """Returns the path of an npm package's .tgz in the folder `source`.

  Raises:
    UserError: it is not there; names the command that downloads it.
  """
  file = f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
  return _find(source, file, f'npm pack {name}@{version}', f'https://www.npmjs.com/package/{name}')


def debian(source: pathlib.Path, name: str) -> pathlib.Path:
  """Returns the path of a Debian package's .deb, of any version, in the folder `source`.

  Raises:
    UserError: there is none, or more than one; names the command that downloads it.
  """
  return _find(source, f'{name}_*.deb', f'apt-get download {name}',
               f'https://packages.debian.org/{name}')


def _find(source: pathlib.Path, pattern: str, command: str, page: str) -> pathlib.Path:
  if not source.is_dir():
    raise UserError(f'{source} is not a folder; make it and run `{command}` in it (or download '
                    f'from {page})')
  found = sorted(source.glob(pattern))
  if not found:
    raise UserError(f'{source} has no {pattern}; run `{command}` in that folder (or download from '
                    f'{page})')
  if len(found) > 1:
    raise UserError(f'{source} has several {pattern}: {", ".join(path.name for path in found)}; '
                    'keep one of them')
  return found[0]


def read(path: pathlib.Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
  """Returns {name: bytes} of the wanted files of a package, in its order. Links are not followed.

  Args:
    path: of a .tgz or a .deb.
    wanted: takes the name of a file, without "./" in front.

  Raises:
    UserError: the file is damaged, incomplete, or compressed in an unsupported way.
  """
  try:
    with path.open('rb') as file, (_deb if path.suffix == '.deb' else gzip.open)(file) as stream:
      return {name: data() for name, data in _members(stream) if wanted(name)}
  except _DAMAGE as error:
    raise _damaged(path, error) from error


def read_npm(path: pathlib.Path, name: str, version: str,
             wanted: Callable[[str], bool]) -> dict[str, bytes]:
  """As `read`, for an npm package of this name and version; names come without "package/".

  Raises:
    UserError: as `read`; or the package is another one.
  """
  files = {inner.removeprefix('package/'): data for inner, data in read(
      path, lambda inner: inner == 'package/package.json'
      or wanted(inner.removeprefix('package/'))).items()}
  try:
    facts = json.loads(files.pop('package.json'))
    found = facts['name'], facts['version']
  except (KeyError, TypeError, ValueError) as error:
    raise _damaged(path, error) from error
  if found != (name, version):
    raise UserError(f'{path} is {found[0]}@{found[1]}, not {name}@{version}; run `npm pack '
                    f'{name}@{version}`')
  return files


def _deb(file: BinaryIO) -> BinaryIO:
  """Opens the data of a .deb, an `ar` archive whose members have headers of 60 bytes (deb(5))."""
  if file.read(len(_AR)) != _AR:
    raise tarfile.ReadError('it does not begin as an ar archive')
  while header := file.read(_AR_HEADER):
    if len(header) < _AR_HEADER or header[58:] != b'`\n' or not header[48:58].strip().isdigit():
      raise tarfile.ReadError('a header of its ar archive is wrong')
    name, length = header[:16].decode('latin-1').rstrip(' /'), int(header[48:58])
    if name.startswith('data.tar'):
      suffix = name.removeprefix('data.tar')
      if suffix not in _OPEN:
        raise UserError(f'{file.name} contains {name}, but only {" and ".join(_OPEN)} are '
                        'supported; take the package of Debian itself')
      return _OPEN[suffix](io.BytesIO(file.read(length)))
    file.seek(length + length % 2, 1)
  raise tarfile.ReadError('it has no data.tar')


def _members(stream: BinaryIO) -> Iterator[tuple[str, Callable[[], bytes]]]:
  with tarfile.open(fileobj=stream, mode='r|') as archive:
    for member in archive:
      if member.isfile():
        yield member.name.removeprefix('./'), lambda: archive.extractfile(member).read()
  while stream.read(1 << 20):  # to the end of the stream, where gzip and xz check their checksums
    pass


def _damaged(path: pathlib.Path, error: Exception) -> UserError:
  return UserError(f'{path} is damaged or incomplete ({type(error).__name__}: {error}); download '
                   'it again')
