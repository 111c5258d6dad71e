"""Options of a data set, converted from a command line or a config to their declared types."""
from __future__ import annotations

import collections.abc
import inspect
import pathlib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from xmc_jax.types import UserError

_WANTED = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'a word',
           pathlib.Path: 'a path', tuple: 'words separated by commas'}
_TRUTH = {'true': True, '1': True, 'yes': True, 'false': False, '0': False, 'no': False}


def check(name: str, load: Callable[..., Any], split: str, size: int,
          options: Mapping[str, Any]) -> dict[str, Any]:
  """Converts the options of the data set `name` to the types that `load` declares.

  Raises:
    UserError: `load(split, size, **options)` does not take an option or a value.
  """
  signature = _signature(load)
  try:
    signature.bind(split, size, **options)
  except TypeError as error:
    raise UserError(f'--config.data.options: the data set {name!r} does not take these options: '
                    f'{error}') from error
  values = {}
  for key, value in options.items():
    kind = signature.parameters[key].annotation if key in signature.parameters else Any
    try:
      values[key] = convert(value, kind)
    except ValueError as error:
      raise UserError(f'--config.data.options.{key}={value}: the data set {name!r} takes {error} '
                      'there') from error
  return values


def convert(value: Any, kind: Any) -> Any:
  """Converts a word of the command line, or a value of a config, to an annotated type.

  Text with commas becomes a tuple if `kind` is a sequence. Values for types that cannot be written
  as a word are returned unchanged.

  Raises:
    ValueError: the value does not fit; the message says what would.
  """
  if isinstance(kind, types.UnionType):          # X | None
    if value is None:
      return None
    kind = next(one for one in typing.get_args(kind) if one is not types.NoneType)
  origin = typing.get_origin(kind)
  if origin in (tuple, list, collections.abc.Sequence):
    kind = tuple
  try:
    return _as(value, kind) if kind in _WANTED else value
  except (TypeError, ValueError, KeyError) as error:
    raise ValueError(_WANTED[kind]) from error


def _as(value: Any, kind: type) -> Any:
  if kind is bool:
    return _TRUTH[str(value).lower()]
  if kind is tuple:
    if isinstance(value, (list, tuple)):
      return tuple(value)
    return tuple(word.strip() for word in _as(value, str).split(',') if word.strip())
  if not isinstance(value, (str, int, float, pathlib.Path)) or isinstance(value, bool):
    raise TypeError(value)
  if kind is int and isinstance(value, float):
    raise ValueError(value)
  return kind(value)


def _signature(load: Callable[..., Any]) -> inspect.Signature:
  try:
    return inspect.signature(load, eval_str=True)
  except NameError:      # annotations of a user's module may exist for type checkers only
    return inspect.signature(load)
