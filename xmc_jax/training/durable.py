"""Checkpoint folders that survive a power cut and whose damage is noticed."""
from __future__ import annotations

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
  return {path.relative_to(folder).as_posix(): _crc(path)
          for path in sorted(pathlib.Path(folder).rglob('*'))
          if path.is_file() and path.name != CHECKSUMS}


def damage(folder: os.PathLike[str]) -> str | None:
  """What is wrong with the files of a checkpoint on a local disk, or None.

  A copy of one that was written to a bucket has no checksums, so nothing is known of it.
  """
  if _is_of_bucket(pathlib.Path(folder)):
    return None
  try:
    expected = json.loads(regular.read(pathlib.Path(folder, CHECKSUMS)))
    if not isinstance(expected, dict):
      raise ValueError('it is no object')
    step = expected.pop(STEP, None)      # older checkpoints do not have it
    found = checksums(folder)
  except (OSError, ValueError) as error:
    return f'{CHECKSUMS}: {error}'
  if step not in (None, pathlib.Path(folder).name):
    return f'it was written as that of step {step}; give the folder its name back'
  for name in sorted(expected.keys() | found.keys()):
    if name not in found:
      return f'{name} is missing'
    if found[name] != expected.get(name):
      return f'{name} has changed since it was written'
  return None


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
