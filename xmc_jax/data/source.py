"""What a data set is to the pipeline: random access to images, their captions and labels."""
from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from xmc_jax.data.options import check
from xmc_jax.data.plan import MIDDLE
from xmc_jax.types import UserError

MODULES = {'emoji': 'xmc_jax.data.embedded.emoji',
           'emoji_scenes': 'xmc_jax.data.embedded.emoji_scenes',
           'records': 'xmc_jax.data.records'}
PREPARED = ('coco2014', 'ln_coco', 'ln_openimages', 'cub', 'emoji_styles', 'tuxpaint')
NAMES = (*MODULES, *PREPARED)
SPLITS = ('train', 'heldout')


class Source(Protocol):
  """A captioned image set. Every method is a pure function of the index, in [0, len(self)).

  name         of the set
  size         pixels of a side, S
  flippable    whether an image may be mirrored under its captions: one bool, or bool [len(self)]
  class_names  the names of the l classes
  images       uint8 [len(self), S, S, 3] if the whole set lies in memory, otherwise None; `image`
               is then called by many threads at once
  """
  name: str
  size: int
  flippable: bool | np.ndarray
  class_names: tuple[str, ...]
  images: np.ndarray | None

  def __len__(self) -> int: ...

  def image(self, index: int, crop: Sequence[float] = MIDDLE) -> np.ndarray:
    """The image, uint8 [S, S, 3]; `crop`, y and x in [0, 1), places the part of a larger one."""

  def captions(self, index: int) -> tuple[str, ...]:
    """All captions of the image, one or more; the number may differ between images."""

  def label(self, index: int) -> np.ndarray:
    """The image's class, an int32 scalar; or float32 [l], the amounts of all classes.

    An amount is 0 where the class is absent; else the share of the image that it covers, in
    (0, 1], where that is known, and 1 where it is not.
    """


def load(name: str, split: str, size: int, **options: Any) -> Source:
  """Returns one split of a data set.

  Args:
    name: one of `MODULES`; or of `PREPARED`, which `xmc_jax.data.prepared` finds; or the import
      path, with a dot, of another module that has `load(split, size, **options) -> Source`.
    split: "train" or "heldout".
    size: pixels of a side.
    **options: the set's own.

  Raises:
    UserError: if the name, the split, the size or an option is unknown, or an option of the wrong
      type.
  """
  if split not in SPLITS:
    raise UserError(f"The data split {split!r} does not exist; choose one of {', '.join(SPLITS)}.")
  if size < 8:
    raise UserError(f'The image size must be at least 8 pixels, and is {size}.')
  load_split = _loader(name)
  return load_split(split, size, **check(name, load_split, split, size, options))


def _loader(name: str) -> Callable[..., Source]:
  """load(split, size, **options) of a data set."""
  if name in PREPARED:
    return functools.partial(importlib.import_module('xmc_jax.data.prepared').load, name)
  path = MODULES.get(name, name)
  known = f"choose one of {', '.join(NAMES)}, or give the import path of a module with load()"
  if '.' not in name and name not in MODULES:
    raise UserError(f'The data set {name!r} is unknown; {known}.')
  try:
    module = importlib.import_module(path)
  except ModuleNotFoundError as error:
    raise UserError(f'The data set {name!r} cannot be imported ({error}); {known}.') from error
  if not hasattr(module, 'load'):
    raise UserError(f'The module {path} has no function load(split, size, **options); {known}.')
  return module.load
