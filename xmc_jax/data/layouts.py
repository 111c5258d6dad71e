"""Layouts of images: which objects stand where, for methods that draw objects at places."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmc_jax.types import UserError

if TYPE_CHECKING:      # it imports the readers of all sets
  from xmc_jax.data.source import Source

COLUMNS = 4      # of a row: kind, y, x, side


def most_objects(source: Source) -> int:
  """The largest number of objects of an image; 0 if the source knows of none."""
  return getattr(source, 'most_objects', 0)


def layout(kinds: Sequence[int], boxes: np.ndarray, rows: int, mirrored: bool = False
           ) -> np.ndarray:
  """The layout, float32 [rows, 4], of objects with boxes [k, 4]: x0, y0, x1, y1 in [0, 1].

  A row is the kind plus one, the center's y and x, and the longer side, all but the kind as
  fractions of the image; the rows are in order of the kind, then y, then x. Rows of zeros fill up.
  """
  found = np.zeros((rows, COLUMNS), np.float32)
  if not len(kinds):
    return found
  x0, y0, x1, y1 = np.asarray(boxes, np.float32).T
  x = (x0 + x1) / 2
  made = np.stack([np.asarray(kinds) + 1, (y0 + y1) / 2, 1 - x if mirrored else x,
                   np.maximum(x1 - x0, y1 - y0)], -1)
  found[:len(made)] = made[np.lexsort((made[:, 2], made[:, 1], made[:, 0]))]
  return found


def layouts(source: Source, indices: Sequence[int], mirrored: Sequence[bool]) -> np.ndarray:
  """The layouts, float32 [b, most_objects, 4], of images."""
  return np.stack([layout(*_checked(source, index), most_objects(source), flip)
                   for index, flip in zip(indices, mirrored)])


def _checked(source: Source, index: int) -> tuple[np.ndarray, np.ndarray]:
  """Kinds and boxes of an image; UserError if there are too many, or of a kind without a name."""
  found, boxes = source.boxes(index)
  rows, names = most_objects(source), len(source.class_names)
  if len(found) > rows or any(not 0 <= kind < names for kind in found):
    raise UserError(f'--config.data.name={source.name}: boxes({index}) gives the classes '
                    f'{[int(kind) for kind in found]}; there may be {rows} at most '
                    f'(most_objects), each from 0 to {names - 1} (class_names)')
  return found, boxes
