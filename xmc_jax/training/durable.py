"""Checkpoint folders that survive a power cut and whose damage is noticed."""
from __future__ import annotations

import errno
import json
import os
import pathlib
import re
import zlib

from orbax.checkpoint.path import atomicity

from xmc_jax.utils import atomic, regular

CHECKSUMS = 'checksums.json'      # {path inside the checkpoint: CRC-32 of the file}, and its step
STEP = 'step'
_CHUNK = 1 << 22                  # bytes that are read at once
# Errors that say something of the files: they are of another kind, or on a bad part of the disk.
# All others may be over at the next attempt.
_DAMAGED = (errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.EIO)


class Unreadable(Exception):
  """A file of a checkpoint is there and cannot be read now, whether or not it is damaged."""


class DurableTemporaryPath(atomicity.AtomicRenameTemporaryPath):
  """Orbax's temporary folder of a checkpoint on a local disk, with checksums and on the disk.

  Orbax renames the folder when its files are written, but flushes only the arrays: for half a
  minute a power cut could leave a checkpoint under its final name with empty files in it. Here the
  folder gets its final name after checksums were added and every file and folder was flushed, and
  the save is complete, so that older checkpoints may go, when the rename was flushed too.
  """

  async def finalize(self) -> None:
    final = self._final_path
    if atomicity.TMP_DIR_SUFFIX in final.parent.name:      # an item inside the folder of its step
      return await super().finalize()
    complete = final.parent / f'{self._tmp_path.name}-complete'      # cleaned up like any other
    self._final_path = complete
    await super().finalize()
    facts = {STEP: final.name, **checksums(complete)}
    atomic.save(pathlib.Path(complete, CHECKSUMS), json.dumps(facts, indent=1))
    atomic.sync_tree(complete)
    os.rename(complete, final)
    atomic.sync(final.parent)
    self._final_path = final


def checksums(folder: os.PathLike[str]) -> dict[str, int]:
  """CRC-32 of each file below `folder`, by its path inside; without the checksums themselves."""
  return {name: _crc(path) for name, path in sorted(_files(pathlib.Path(folder)).items())}


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  return {path.relative_to(folder).as_posix(): path for path in folder.rglob('*')
          if path.is_file() and path.name != CHECKSUMS}


def damage(folder: os.PathLike[str]) -> str | None:
  """What is wrong with the files of a checkpoint on a local disk, or None.

  A copy of one that was written to a bucket has no checksums, so nothing is known of it. Hidden
  files that others have put there do no harm. `Unreadable` if a file cannot be read now.
  """
  folder, name = pathlib.Path(folder), CHECKSUMS
  if _is_of_bucket(folder):
    return None
  try:
    expected = json.loads(regular.read(folder / CHECKSUMS))
    if not isinstance(expected, dict):
      raise ValueError('it is no object')
    step = expected.pop(STEP, None)      # older checkpoints do not have it
    if step not in (None, folder.name):
      return f'it was written as that of step {step}; give the folder its name back'
    for name in sorted(expected):
      if _crc(folder / name) != expected[name]:
        return f'{name} has changed since it was written'
    strangers = _files(folder).keys() - expected.keys()
  except FileNotFoundError:
    return f'{name} is missing'
  except OSError as error:
    if error.errno not in _DAMAGED:
      raise Unreadable(error) from error
    return str(error)
  except ValueError as error:
    return f'{CHECKSUMS}: {error}'
  # Hidden files are those of others, such as .DS_Store and .nfs….
  return next((f'{name} is no part of it' for name in sorted(strangers)
               if not pathlib.Path(name).name.startswith('.')), None)


def _is_of_bucket(folder: pathlib.Path) -> bool:
  """Whether orbax wrote a checkpoint under its final name, as in buckets; see `finalize`."""
  try:
    said = regular.read(folder / atomicity.COMMIT_SUCCESS_FILE).decode()
  except (OSError, ValueError):
    return False
  return not (folder / CHECKSUMS).exists() and bool(re.search(rf'/{folder.name}$', said))


def _crc(path: pathlib.Path) -> int:
  value = 0
  with path.open('rb') as file:
    while chunk := file.read(_CHUNK):
      value = zlib.crc32(chunk, value)
  return value
