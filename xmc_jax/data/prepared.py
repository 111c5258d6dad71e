"""Finds by name the data sets that `xmc prepare` has made.

The set NAME at S pixels is the folder ROOT/NAME-S. ROOT is the environment variable XMC_JAX_DATA,
by default `data` in the current folder. It may be in a bucket (gs://BUCKET/data).
"""
from __future__ import annotations

import os
import re

from etils import epath

from xmc_jax.data import records
from xmc_jax.types import UserError
from xmc_jax.utils import mirror


def root() -> epath.Path:
  """Returns the folder of all prepared sets."""
  return epath.Path(os.environ.get('XMC_JAX_DATA') or 'data').expanduser()


def folder_of(name: str, size: int) -> epath.Path:
  """Returns where `xmc prepare` puts the set `name` at `size` pixels."""
  return root() / f'{name}-{size}'


def find(name: str, size: int) -> epath.Path:
  """Returns the folder of the set `name` prepared at `size` pixels, or at the next larger size.

  Raises:
    UserError: there is none; names the command that makes it.
  """
  folders = sizes(name)
  ready = [s for s, path in folders.items() if s >= size and (path / records.MANIFEST).is_file()]
  if ready:
    return folders[min(ready)]
  flag = f'--config.data.name={name}'
  command = f'`xmc prepare {name} --source DIR --size {size}`'
  if size in folders:
    raise UserError(f'{flag}: the preparation in {folders[size]} is not finished; run {command} '
                    'again')
  raise UserError(f'{flag}: the data set is not prepared at {size} px or more in {root()}; prepare '
                  f'it with {command}, or give its folder with --config.data.options.folder=FOLDER')


def sizes(name: str) -> dict[int, epath.Path]:
  """Returns {size in pixels: folder} of the prepared sets of a name, finished or not.

  UserError if the folder of all sets is there, or in a bucket, and cannot be read.
  """
  try:
    paths = sorted(root().iterdir()) if root().is_dir() else ()
    return {int(found[1]): path for path in paths
            if (found := re.fullmatch(rf'{re.escape(name)}-(\d+)', path.name)) and path.is_dir()}
  except Exception as error:      # every kind of bucket has its own
    raise UserError(f'XMC_JAX_DATA={os.environ.get("XMC_JAX_DATA", "")}: the prepared data sets '
                    f'cannot be listed ({mirror.first_line(error)}); mend that, or name another '
                    'folder') from error


def load(name: str, split: str, size: int, folder: str | None = None,
         crop: str = 'random') -> records.Records:
  """Loads a split of a prepared set; options and errors are those of `records.load` and `find`."""
  return records.load(split, size, folder=folder or str(find(name, size)), crop=crop)
