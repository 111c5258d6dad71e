"""Finds and loads frozen networks by name, and checks their files.

  module, variables, sha256, path = registry.load('inception-tf2015')

The files of `registry_table` are looked for in `files.folders()`, then in installed packages, in
the order of the table. A file with a known hash that does not match is refused.
"""
from __future__ import annotations

import math
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from flax import linen as nn

from xmc_jax.encoders.features import variables_spec
from xmc_jax.encoders.registry_table import ENTRIES, Entry, WeightSource
from xmc_jax.types import Tree, UserError
from xmc_jax.utils.hashing import file_sha256
from xmc_jax.utils.optional import MissingPackage
from xmc_jax.weight_files import files

RANDOM = 'random'  # in place of a hash, for random weights


class Found(NamedTuple):
  """Where the weights of an entry are."""

  path: pathlib.Path
  entry: Entry
  source: WeightSource


class Loaded(NamedTuple):
  """A network with its weights; `sha256` is that of the file, or `RANDOM`."""

  module: nn.Module
  variables: Tree
  sha256: str
  path: pathlib.Path | None


def entry(name: str) -> Entry:
  """The entry with this name; UserError if there is none."""
  if name not in ENTRIES:
    raise UserError(f'there are no weights named {name!r}; choose one of {", ".join(ENTRIES)}')
  return ENTRIES[name]


def find(name: str) -> Found:
  """The first source of an entry that exists; its hash is not checked.

  Raises:
    UserError: none exists. The message names the files, the folders and what to do.
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
  raise UserError(f'the weights {name} were not found: there is no {wanted} in {folders}; '
                  f'to get them run: {how_to_get(name)}')


def how_to_get(name: str) -> str:
  """The command that downloads or installs the weights of an entry."""
  pips = [source.pip for source in entry(name).sources if source.pip]
  return pips[0] if pips else f'xmc weights get {name}'


def _places(source: WeightSource) -> Iterator[pathlib.Path]:
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
    random: seed of random weights to use instead of files, for tests and trials.
  Raises:
    UserError: the name is unknown; the weights are missing, damaged, have another hash or belong to
      another network; or random weights are wanted but only a file has the sizes.
  """
  known = entry(name)
  if random is not None:
    return _random(name, known, random)
  path, _, source = find(name)
  digits = check(name, path, source)
  try:
    return Loaded(*source.load(path), digits, path)
  except MissingPackage:
    raise
  except UserError as error:
    raise UserError(f'the weights {path} are not those of {name}: {error}; to get them again run: '
                    f'{how_to_get(name)}') from error


def check(name: str, path: pathlib.Path, source: WeightSource) -> str:
  """The hash of the weights at `path`; UserError if it is not the known one."""
  files.refuse_pointer(source.weights(path))
  digits = file_sha256(source.weights(path))
  if not digits.startswith(source.sha256):
    raise UserError(
      f'the file {source.weights(path)} is not that of {name}: its sha256 is {digits} and should '
      f'begin with {source.sha256}; remove it and run: {how_to_get(name)}')
  return digits


def check_named(name: str, path: pathlib.Path) -> None:
  """Checks the hash of weights at `path` if `name` is in the table.

  Raises:
    UserError: the name is that of published weights, and these are different ones.
  """
  for source in ENTRIES[name].sources if name in ENTRIES else ():
    if source.weights(path).is_file():
      check(name, path, source)
      return


def _random(name: str, known: Entry, seed: int) -> Loaded:
  if known.module is None:
    raise UserError(f'the weights {name} cannot be random: only their config.json has the sizes; '
                    f'run: {how_to_get(name)}')
  module, rng = known.module(), np.random.default_rng(seed)

  def leaf(path, struct: jax.ShapeDtypeStruct) -> np.ndarray:
    kind = path[-1].key
    if kind == 'kernel':  # He initialization
      deviation = np.sqrt(2 / math.prod(struct.shape[:-1]))
      return deviation * rng.standard_normal(struct.shape, np.float32)
    return np.full(struct.shape, kind in ('scale', 'var'), np.float32)

  variables = jax.tree_util.tree_map_with_path(leaf, variables_spec(module, known.side))
  return Loaded(module, variables, RANDOM, None)
