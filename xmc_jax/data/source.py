"""What the input pipeline needs of a data set: random access to images, captions and labels."""
from __future__ import annotations

import functools
import hashlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from xmc_jax.data import prepared
from xmc_jax.data.options import check
from xmc_jax.data.plan import MIDDLE
from xmc_jax.types import UserError
from xmc_jax.utils import mirror, user_code

MODULES = {'emoji': 'xmc_jax.data.embedded.emoji',
           'emoji_scenes': 'xmc_jax.data.embedded.emoji_scenes',
           'records': 'xmc_jax.data.records'}
PREPARED = ('coco2014', 'ln_coco', 'ln_openimages', 'cub')     # by the readers of `xmc prepare`
NAMES = (*MODULES, *PREPARED)
SPLITS = ('train', 'heldout')


class Source(Protocol):
  """One split of a set of captioned images.

  Every method is a pure function of the index, in [0, len(self)), and is called by many threads.

  Attributes:
    name: of the set.
    size: S, the side of its square images in pixels.
    flippable: whether the captions stay true of the mirror image: a bool for all images, or bool
      [len(self)].
    class_names: names of the l classes.
    images: uint8 [len(self), S, S, 3] if the whole split is in memory, otherwise None.

  It may also have `together`, a number: so many successive examples, from a multiple of it, are
  always next to one another in a batch. A source that knows what stands where has `most_objects`,
  the largest number of objects of an image, and `boxes(index)`: their classes, int [k], and boxes
  x0, y0, x1, y1, float32 [k, 4], as fractions of the image.
  """
  name: str
  size: int
  flippable: bool | np.ndarray
  class_names: tuple[str, ...]
  images: np.ndarray | None

  def __len__(self) -> int: ...

  def image(self, index: int, crop: Sequence[float] = MIDDLE) -> np.ndarray:
    """Returns the image, uint8 [S, S, 3].

    If the stored image is larger, `crop`, y and x in [0, 1), is the place of the square to take.
    """

  def captions(self, index: int) -> tuple[str, ...]:
    """Returns all captions of the image: one or more, not the same number for every image."""

  def label(self, index: int) -> np.ndarray:
    """Returns the label of the image: its class, an int32 scalar, or float32 [l].

    In the second form 0 means that a class is absent; otherwise the value is the fraction of the
    image that the class covers, in (0, 1], or 1 if that is not known.
    """


def load(name: str, split: str, size: int, **options: Any) -> Source:
  """Returns one split of a data set.

  Args:
    name: one of `MODULES`; or that of a set that `xmc prepare` has made (`xmc_jax.data.prepared`);
      or the import path, with a dot, of a module that has `load(split, size, **options) -> Source`.
    split: "train" or "heldout".
    size: side of the images in pixels.
    **options: of the data set.

  Raises:
    UserError: the name, the split, the size or an option is unknown, an option is of the wrong
      type, or there are no examples.
  """
  if split not in SPLITS:
    raise UserError(f"the data split {split!r} does not exist; choose one of {', '.join(SPLITS)}")
  if size < 8:
    raise UserError(f'--config.model.size={size}: images must have at least 8 pixels a side')
  load_split = _loader(name)
  source = load_split(split, size, **check(name, load_split, split, size, options))
  if len(source) == 0:
    raise UserError(f'--config.data.options: the data set {source.name!r} has no examples of the '
                    f'split {split!r} with these options; choose others')
  return source


def absolute(name: str, size: int, options: Mapping[str, Any]) -> dict[str, Any]:
  """The options of a set in a folder, with which it is found from every working folder."""
  folder = options.get('folder')
  if not folder and _is_prepared(name):
    folder = prepared.find(name, size)
  if not folder:
    return dict(options)
  if mirror.is_remote(folder):
    return {**options, 'folder': str(folder)}
  return {**options, 'folder': str(pathlib.Path(str(folder)).expanduser().absolute())}


def _is_prepared(name: str) -> bool:
  return name in PREPARED or name not in MODULES and bool(prepared.sizes(name))


def _loader(name: str) -> Callable[..., Source]:
  """Returns load(split, size, **options) of a data set."""
  if _is_prepared(name):
    return functools.partial(prepared.load, name)
  path = MODULES.get(name, name)
  flag = f'--config.data.name={name}'
  known = f"choose one of {', '.join(NAMES)}, or give the import path of a module with load()"
  if '.' not in name and name not in MODULES:
    raise UserError(f'{flag}: there is no such data set, nor a prepared one of this name in '
                    f'{prepared.root()}; {known}')
  module = user_code.import_module(path, flag, known)
  if not hasattr(module, 'load'):
    raise UserError(f'{flag}: the module has no function load(split, size, **options); {known}')
  return module.load


def fingerprint(source: Source) -> str:
  """A hash that changes when the data does.

  Of the number of examples, the names of the classes, and the image, captions and label of up to
  64 examples, evenly spaced, with the boxes of their objects; where the source has one, also of
  its `sha256`, which covers all.
  """
  digest = hashlib.sha256(repr((len(source), source.size, source.class_names,
                                getattr(source, 'sha256', None))).encode())
  for i in np.linspace(0, len(source) - 1, min(64, len(source))).astype(int).tolist():
    digest.update(np.ascontiguousarray(source.image(i)).tobytes())
    digest.update(repr((source.captions(i), np.asarray(source.label(i)).tolist())).encode())
    if getattr(source, 'most_objects', 0):
      digest.update(repr([np.asarray(x).tolist() for x in source.boxes(i)]).encode())
  return digest.hexdigest()
