"""Annotated objects of COCO's images: instances_*.json of any year.

The labels of an image are the categories of its objects; areas are summed by category. Crowds
(`iscrowd` 1: one outline around a group of one category) count like other objects, since what they
cover belongs to that category. They are marked in `crowd`.
"""
from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from xmc_jax.prepare import archives
from xmc_jax.types import UserError


class Marks(NamedTuple):
  """Fields of `OriginalExample` that follow from the objects of an image."""
  labels: tuple[int, ...]
  areas: tuple[float, ...]
  more: dict[str, Any]


def marks(label: Sequence[int], area: Sequence[float], box: Sequence[Sequence[float]],
          crowd: Sequence[bool], width: int, height: int) -> Marks:
  """Summarizes the objects of an image.

  Args:
    label: class index of each object.
    area: of each object, in square pixels.
    box: x, y, width, height of each object, in pixels.
    crowd: whether each object is a crowd.
    width, height: of the image, in pixels.

  Returns:
    `Marks` with the labels ascending, each once; the fraction of the image that each covers,
    clipped to one pixel and to the whole image, since objects overlap; and {"size": [width,
    height], "boxes": …, "box_labels": …, "crowd": …} in pixels of the original image.
  """
  covered = {}
  for one, pixels in zip(label, area, strict=True):
    covered[one] = covered.get(one, 0) + pixels
  labels = tuple(sorted(covered))
  whole = width * height
  areas = tuple(min(max(covered[one], 1) / whole, 1.0) for one in labels)
  return Marks(labels, areas, {
      'size': [width, height], 'boxes': [[round(float(x), 2) for x in b] for b in box],
      'box_labels': list(label), 'crowd': [int(c) for c in crowd]})


@dataclasses.dataclass(frozen=True)
class Objects:
  """The objects of n images in flat arrays; those of row i are `starts[i]` to `starts[i + 1] - 1`.

  Attributes:
    class_names: of the l classes.
    starts: int64 [n + 1].
    label, area, box, crowd: of the m objects: int16 [m], float64 [m], float32 [m, 4], bool [m].
    size: width and height of the images, int32 [n, 2]; 0 of an image that the file does not list.
  """
  class_names: tuple[str, ...]
  starts: np.ndarray
  label: np.ndarray
  area: np.ndarray
  box: np.ndarray
  crowd: np.ndarray
  size: np.ndarray

  def marks(self, row: int) -> Marks:
    """Summarizes the objects of a row; see the function `marks`."""
    own = slice(self.starts[row], self.starts[row + 1])
    return marks(self.label[own].tolist(), self.area[own].tolist(), self.box[own].tolist(),
                 self.crowd[own].tolist(), *self.size[row].tolist())


def read_objects(path: pathlib.Path, name: str, ids: Sequence[int],
                 left_out: Callable[[str, int], None]) -> Objects:
  """Reads instances_*.json, from a file or a zip of annotations.

  Both splits of COCO-14 take about 25 s of one core and at most 1.3 GB, since outlines are dropped
  while parsing.

  Args:
    path: of the file, or of the zip.
    name: of the member, if it is a zip.
    ids: image ids, in the order of the rows.
    left_out: called with (reason, number) for objects that are left out.

  Raises:
    UserError: the file is not JSON, or not as COCO publishes it.
  """
  facts = read_json(path, name, drop='segmentation')
  with shaped_like_coco(path, name):
    categories = sorted(facts['categories'], key=lambda category: category['id'])
    number = {category['id']: i for i, category in enumerate(categories)}
    sizes = {image['id']: (image['width'], image['height'])
             for image in complete(facts['images'], ('id', 'width', 'height'), 'images', left_out)}
    empty = [one for one, (width, height) in sizes.items() if not (width > 0 and height > 0)]
    if empty:
      left_out(f'images without width or height (first id {empty[0]})', len(empty))
    for one in empty:
      del sizes[one]
    lacking = [one for one in ids if one not in sizes]
    if lacking:
      left_out(f'labels: images that {path.name if path.suffix != ".zip" else name} does not list, '
               f'which are kept without objects (first id {lacking[0]})', len(lacking))
    rows = {one: row for row, one in enumerate(ids) if one in sizes}
    needed = ('id', 'image_id', 'category_id', 'bbox')
    annotations = complete(facts['annotations'], needed, 'object annotations', left_out)
    found, missed = _sorted_in(annotations, rows, number)
    for why, count in missed.items():
      left_out(why, count)
    of_row = np.array([rows[one['image_id']] for one in found], np.int64)
    starts = np.searchsorted(of_row, np.arange(len(ids) + 1))
    left_out('labels: images without objects, which are kept', int((np.diff(starts) == 0).sum()))
    return Objects(
        tuple(category['name'] for category in categories), starts,
        np.array([number[one['category_id']] for one in found], np.int16),
        np.array([_area(one) for one in found], np.float64),
        np.array([one['bbox'] for one in found], np.float32).reshape(-1, 4),
        np.array([one.get('iscrowd') or 0 for one in found], bool),
        np.array([sizes.get(one, (0, 0)) for one in ids], np.int32).reshape(-1, 2))


def _sorted_in(annotations: Sequence[Mapping[str, Any]], rows: Mapping[int, int],
               number: Mapping[int, int]) -> tuple[list[Mapping[str, Any]], Counter]:
  """Returns the objects ordered by row and object id, and {reason: number} of those left out."""
  missed, found = Counter(), []
  for one in annotations:
    if one['image_id'] not in rows:
      missed['objects of images that are not in the data set'] += 1
    elif one['category_id'] not in number:
      missed['objects of a category that the file does not name'] += 1
    elif not all(map(math.isfinite, (*one['bbox'], _area(one)))):
      missed['objects whose box or area is not a finite number'] += 1
    else:
      found.append(one)
  return sorted(found, key=lambda one: (rows[one['image_id']], one['id'])), missed


def _area(one: Mapping[str, Any]) -> float:
  """The area of an object, or that of its box, since own lists often have none."""
  area = one.get('area')
  return one['bbox'][2] * one['bbox'][3] if area is None else area


def complete(records: Sequence[Mapping[str, Any]], needed: Sequence[str], what: str,
             left_out: Callable[[str, int], None]) -> list[Mapping[str, Any]]:
  """Returns the records that have all keys of `needed`; counts and names the others."""
  lacking: dict[str, list[Any]] = {}
  found = []
  for one in records:
    key = next((key for key in needed if one.get(key) is None), None)
    if key is None:
      found.append(one)
    else:
      lacking.setdefault(key, []).append(one.get('id'))
  for key, ids in lacking.items():
    left_out(f'{what} without {key} (first id {ids[0]})', len(ids))
  return found


def read_json(path: pathlib.Path, name: str, drop: str = '') -> Any:
  """Parses a JSON file, or the member `name` of a zip, without the key `drop` of any object."""
  def without(found: dict[str, Any]) -> dict[str, Any]:
    found.pop(drop, None)
    return found
  try:
    return json.loads(archives.read(path, name), object_hook=without if drop else None)
  except ValueError as error:
    raise UserError(f'{place(path, name)} is not JSON ({error}); download it again') from error


@contextlib.contextmanager
def shaped_like_coco(path: pathlib.Path, name: str) -> Iterator[None]:
  """Turns missing keys and values of a wrong type into a UserError about the file."""
  try:
    yield
  except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
    what = (f'it has no {error}' if isinstance(error, KeyError) else
            f'{type(error).__name__}: {error}')
    raise UserError(f'{place(path, name)} is not as COCO publishes it ({what}); download it again, '
                    'or write it as https://cocodataset.org/#format-data says') from error


def place(path: pathlib.Path, name: str) -> str:
  """Formats the name of a file, or of a member of a zip, for messages."""
  return f'{name} in {path}' if path.suffix == '.zip' else str(path)
