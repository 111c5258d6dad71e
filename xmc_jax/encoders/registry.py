"""Finds and loads frozen networks by their names, and checks the files.

  module, variables, sha256, path = weights.load('inception-tf2015')

The files of `weights_table` are looked for in the folders of `files.folders()`, then in installed
packages, in the order of the table. A file whose hash is known and differs is refused.
"""
from __future__ import annotations

import math
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from flax import linen as nn

from xmc_jax.encoders.registry_table import ENTRIES, Entry, Source
from xmc_jax.types import Tree, UserError
from xmc_jax.utils.optional import MissingPackage
from xmc_jax.weight_files import files

RANDOM = 'random'  # stands for the hash of weights that no file holds


class Found(NamedTuple):
  """Where an entry's weights are."""

  path: pathlib.Path
  entry: Entry
  source: Source


class Loaded(NamedTuple):
  """A network with its weights; `sha256` of the file, or `RANDOM`, for the records of a measure."""

  module: nn.Module
  variables: Tree
  sha256: str
  path: pathlib.Path | None


def entry(name: str) -> Entry:
  """An entry of the table.

  Raises:
    UserError: there is none of that name.
  """
  if name not in ENTRIES:
    raise UserError(f'There are no weights named {name!r}; choose one of {", ".join(ENTRIES)}.')
  return ENTRIES[name]


def find(name: str) -> Found:
  """The first of an entry's sources that is there; its hash is not looked at.

  Raises:
    UserError: none is; the sentence names the files, the places and what to do.
  """
  known = entry(name)
  for source in known.sources:
    for path in _places(source):
      if source.is_at(path):
        return Found(path, known, source)
  wanted = ' or '.join(dict.fromkeys(
    '/'.join([source.file, *source.parts[:1]]) for source in known.sources))
  folders = ' or '.join(map(str, files.folders()))
  packages = [source.package[0] for source in known.sources if source.package]
  if packages:
    folders += f" or the installed package {' or '.join(packages)}"
  raise UserError(f'The weights {name} were not found: there is no {wanted} in {folders}; '
                  f'to get them run: {how_to_get(name)}')


def how_to_get(name: str) -> str:
  """The command that brings an entry's weights here."""
  pips = [source.pip for source in entry(name).sources if source.pip]
  return pips[0] if pips else f'xmc weights get {name}'


def _places(source: Source) -> Iterator[pathlib.Path]:
  for folder in files.folders():
    yield folder / source.file
  if source.package:
    try:
      yield files.package_file(*source.package, source.pip)
    except UserError:
      return


def load(name: str, random: int | None = None) -> Loaded:
  """A network and its weights, checked.

  Args:
    name: one of `ENTRIES`.
    random: seed of weights that are drawn instead of looked for, for tests and trials.
  Raises:
    UserError: the name is not known; the weights are not there, damaged, of another hash or
      another network's; or they were to be drawn and only a file says the sizes.
  """
  known = entry(name)
  if random is not None:
    return _draw(name, known, random)
  path, _, source = find(name)
  digits = check(name, path, source)
  try:
    return Loaded(*source.load(path), digits, path)
  except MissingPackage:
    raise
  except UserError as error:
    raise UserError(f'The weights {path} are not those of {name}: {error}; to get them again run: '
                    f'{how_to_get(name)}') from error


def check(name: str, path: pathlib.Path, source: Source) -> str:
  """The hash of weights that lie at `path`.

  Raises:
    UserError: another one is known.
  """
  digits = files.sha256(source.weights(path))
  if not digits.startswith(source.sha256):
    raise UserError(
      f'The file {source.weights(path)} is not that of {name}: its sha256 is {digits} and should '
      f'begin with {source.sha256}; remove it and run: {how_to_get(name)}')
  return digits


def check_named(name: str, path: pathlib.Path) -> None:
  """Checks the hash of weights at `path` that go by a name of the table, wherever they were found.

  Raises:
    UserError: the name is that of published weights, and these are not they.
  """
  for source in ENTRIES[name].sources if name in ENTRIES else ():
    if source.weights(path).is_file():
      check(name, path, source)
      return


def _draw(name: str, known: Entry, seed: int) -> Loaded:
  if known.module is None:
    raise UserError(f'The weights {name} cannot be drawn at random: only their config.json says '
                    f'the sizes; run: {how_to_get(name)}')
  module, rng = known.module(), np.random.default_rng(seed)

  def leaf(path, struct: jax.ShapeDtypeStruct) -> np.ndarray:
    kind = path[-1].key
    if kind == 'kernel':  # of a scale that ReLUs keep
      deviation = np.sqrt(2 / math.prod(struct.shape[:-1]))
      return deviation * rng.standard_normal(struct.shape, np.float32)
    return np.full(struct.shape, kind in ('scale', 'var'), np.float32)

  images = jax.ShapeDtypeStruct((1, known.side, known.side, 3), np.float32)
  wanted = jax.eval_shape(module.init, jax.random.key(0), images)
  return Loaded(module, jax.tree_util.tree_map_with_path(leaf, wanted), RANDOM, None)
