"""Downloads files, resuming where a hash proves that the parts belong together."""
from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import urllib.error
import urllib.request
from typing import BinaryIO

from xmc_jax.types import UserError
from xmc_jax.utils import lock
from xmc_jax.utils.hashing import file_sha256
from xmc_jax.utils.progress import Progress

_CHUNK = 1 << 20  # bytes
_SILENCE = 60  # seconds without data after which a server is given up


def download(url: str, target: pathlib.Path, sha256: str = '', *, replace: bool = False) -> None:
  """Downloads a file to `target`, which appears only when it is complete.

  A download that broke off is resumed if its hash is known, which proves that the parts fit.
  Processes of one host take turns, and a file that another one has brought is not fetched again.

  Args:
    url: http or https.
    target: the file; its folder is created.
    sha256: its hash or the first digits of it; empty if it is not known.
    replace: whether a file that is there is fetched again although it has this hash.
  Raises:
    UserError: the server or the disk fails, or the hash is wrong.
  """
  here = target.exists()
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    with lock.turn(target.with_name(f'.{target.name}.lock')):
      brought = target.exists() and not here      # by another process
      fits = here and sha256 and not replace and file_sha256(target).startswith(sha256)
      if not (brought or fits):
        _download(url, target, sha256)
  except (OSError, http.client.HTTPException) as error:
    again = 'run the same command to resume' if sha256 else 'run the same command again'
    raise UserError(f'{url}: the download to {target} failed ({error}); {again}, or put the file '
                    'there yourself') from error


def _download(url: str, target: pathlib.Path, sha256: str) -> None:
  part = target.with_name(f'{target.name}.part')
  if not sha256:
    part.unlink(missing_ok=True)  # nothing could prove that two parts belong together
  _fetch(url, part)
  digits = file_sha256(part)
  if not digits.startswith(sha256):
    part.unlink()
    raise UserError(f'{url}: the file had the sha256 {digits} instead of {sha256} and was removed; '
                    'run the same command again, or get the file from somewhere else')
  if not sha256:
    print(f'No hash of {target.name} is known to compare with; that of this file is {digits}.')
  os.replace(part, target)


def _fetch(url: str, part: pathlib.Path) -> None:
  """Downloads to `part`, or the rest if the beginning is there already."""
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
