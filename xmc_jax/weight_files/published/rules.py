"""From the names of a published state dict to the variables of our networks, by tables of rules.

A rule pairs a module of theirs with one of ours; `{n}` and the like stand for any number, `{n+1}`
for one more than that. What happens to an array follows from the shape that is wanted.
"""
from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np
from flax import traverse_util

from xmc_jax.types import Tree, UserError
from xmc_jax.weight_files import convert
from xmc_jax.weight_files.convert import WRAPPERS, Path

Arrays = Mapping[str, np.ndarray]

_NUMBER = re.compile(r'{(\w)(\+1)?}')
# Theirs that ours have no place for: counters of BatchNorm, and right vectors of spectral norm.
_UNUSED = ('num_batches_tracked', 'weight_v')


@dataclasses.dataclass(frozen=True)
class Rule:
  """A module of theirs and one of ours.

  theirs, ours: names, with dots and with slashes between their parts.
  maps: 1 or 2 if the outputs are viewed as so many square maps, of which theirs number the
    channels first and ours the pixels.
  kernel: what theirs is called.
  """
  theirs: str
  ours: str
  maps: int = 0
  kernel: str = 'weight'

  def leaf(self, collection: str, leaf: str) -> str:
    """The name of a variable in the module of theirs."""
    return {('spectral', 'kernel'): 'weight_u', ('params', 'kernel'): self.kernel,
            ('params', 'scale'): 'weight', ('params', 'embedding'): 'weight',
            ('batch_stats', 'mean'): 'running_mean',
            ('batch_stats', 'var'): 'running_var', ('params', 'gate'): 'gamma',
            ('params', 'gate_other'): 'beta'}.get((collection, leaf), leaf)

  def changed(self, array: np.ndarray, wanted: jax.ShapeDtypeStruct, side: int) -> np.ndarray:
    """The array as `convert.fill` takes it: pixels before channels, and no axes of length 1."""
    if self.maps and array.shape[0] % (self.maps * side ** 2) == 0:
      maps = array.reshape(self.maps, -1, side ** 2, *array.shape[1:])
      array = maps.swapaxes(1, 2).reshape(array.shape)
    if len(wanted.shape) < array.ndim and set(array.shape[len(wanted.shape):]) == {1}:
      array = array.reshape(array.shape[:len(wanted.shape)])
    return array


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
  parts = _NUMBER.split(template)      # text, letter, '+1' or None, text, ...
  return re.compile(''.join(
    re.escape(part) if i % 3 == 0 else rf'(?P<{part}>\d+)' if i % 3 == 1 else ''
    for i, part in enumerate(parts)))


def translate(name: str, template: str, other: str) -> str | None:
  """`name`, if it has the form `template`, in the form `other`; else None."""
  found = _pattern(template).fullmatch(name)
  if not found:
    return None
  more = {letter: bool(plus) for letter, plus in _NUMBER.findall(template)}
  numbers = {letter: int(digits) - more[letter] for letter, digits in found.groupdict().items()}
  if min(numbers.values(), default=0) < 0:
    return None
  return _NUMBER.sub(lambda x: str(numbers[x[1]] + bool(x[2])), other)


def network(arrays: Arrays, *roots: str) -> dict[str, np.ndarray]:
  """The arrays of one network in a file that may hold more, without the names of wrappers.

  roots: of the network in a file of several, such as 'netG'. A file of one network may keep it
    under 'state_dict' or 'model'.
  Raises:
    UserError: two arrays have the same name without those of wrappers.
  """
  named: dict[str, np.ndarray] = {}
  for name, array in arrays.items():
    short = WRAPPERS.sub('', name)
    if short in named:
      raise UserError(f'it has the tensor {short} twice, with and without a prefix; keep one of '
                      'them in the file')
    named[short] = array
  prefixes = *(f'{top}{root}.' for root in roots for top in ('model.', '')), 'state_dict.', 'model.'
  prefix = next((p for p in prefixes if any(name.startswith(p) for name in named)), '')
  return {name.removeprefix(prefix): array for name, array in named.items()
          if name.startswith(prefix) and name.rpartition('.')[2] not in _UNUSED}


def share(arrays: Iterable[str], rules: Sequence[Rule]) -> float:
  """The share of the names that modules of `rules` have."""
  modules = [name.rpartition('.')[0] for name in arrays]
  known = sum(any(_pattern(rule.theirs).fullmatch(module) for rule in rules) for module in modules)
  return known / max(1, len(modules))


def fill(wanted: Tree, arrays: Arrays, rules: Sequence[Rule], side: int = 4) -> Tree:
  """Variables of the shapes of `wanted` with the values of `arrays`, of `network`.

  side: of the maps of rules with `maps`.
  Raises:
    UserError: an array is missing, unknown, of another shape or not finite. The message does not
      name the file.
  """
  arrays, names = dict(arrays), {}
  for path, struct in traverse_util.flatten_dict(wanted).items():
    rule, names[path] = _find(path, rules, arrays)
    if names[path] in arrays:
      arrays[names[path]] = rule.changed(np.asarray(arrays[names[path]], np.float32), struct,
                                                side)
  unknown = sorted(arrays.keys() - names.values())
  if unknown:
    raise UserError(f'it has the tensor {unknown[0]}, which this network has no place for '
                    f'({len(unknown)} such tensors)')
  return convert.fill(wanted, arrays, lambda path: [names[path]])


def _find(path: Path, rules: Sequence[Rule], arrays: Arrays) -> tuple[Rule, str]:
  """The rule of a variable and its name in the file; of several rules, one that the file needs."""
  collection, *modules, leaf = path
  ours = '/'.join(modules[:-1] if collection == 'batch_stats' else modules)
  found = [(rule, f'{theirs}.{rule.leaf(collection, leaf)}') for rule in rules
           if (theirs := translate(ours, rule.ours, rule.theirs)) is not None]
  if not found:
    raise UserError(f'the network of these sizes has {"/".join(path)}, which no published one has')
  return next((pair for pair in found if pair[1] in arrays), found[0])


def length(arrays: Arrays, name: str, axis: int) -> int:
  """The length of an axis of an array; UserError if there is no such array or axis."""
  if name not in arrays or arrays[name].ndim <= axis:
    raise UserError(f'it has no tensor {name} of {axis + 1} axes or more')
  return arrays[name].shape[axis]


def count(arrays: Iterable[str], template: str) -> int:
  """How many different modules of this form there are, `{n}` standing for a number."""
  found = (_pattern(template).match(name) for name in arrays)
  return len({match[0] for match in found if match})
