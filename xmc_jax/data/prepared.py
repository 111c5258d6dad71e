"""Where the data sets lie that `xmc prepare` has prepared, by name.

A set NAME at S pixels is the folder ROOT/NAME-S; ROOT is the environment's XMC_JAX_DATA, or `data`
in the folder where the command runs.
"""
from __future__ import annotations

import os
import pathlib
import re

from xmc_jax.data import records
from xmc_jax.types import UserError


def root() -> pathlib.Path:
  """The folder of all prepared sets."""
  return pathlib.Path(os.environ.get('XMC_JAX_DATA') or 'data').expanduser()


def folder_of(name: str, size: int) -> pathlib.Path:
  """Where the set `name` is, or will be, when prepared at `size` pixels."""
  return root() / f'{name}-{size}'


def find(name: str, size: int) -> pathlib.Path:
  """The folder of the smallest prepared set `name` of at least `size` pixels a side.

  Raises:
    UserError: there is none; it has the command that makes it.
  """
  sizes = {int(found[1]): path for path in sorted(root().glob(f'{name}-*'))
           if (found := re.fullmatch(rf'{re.escape(name)}-(\d+)', path.name))}
  ready = [s for s, path in sizes.items() if s >= size and (path / records.MANIFEST).is_file()]
  if ready:
    return sizes[min(ready)]
  command = f'`xmc prepare {name} --source DIR --size {size}`'
  if size in sizes:
    raise UserError(f'The data set {name!r} in {sizes[size]} is not finished; run {command} '
                    'again.')
  raise UserError(f'The data set {name!r} is not prepared at {size} px or more in {root()}; '
                  f'prepare it with {command}, or give its folder with '
                  '--config.data.options.folder=FOLDER.')


def load(name: str, split: str, size: int, folder: str | None = None,
         crop: str = 'random') -> records.Records:
  """Returns a split of a prepared set; the options are those of `records.load`.

  Raises:
    UserError: as `find` and `records.load` say.
  """
  return records.load(split, size, folder=folder or str(find(name, size)), crop=crop)
