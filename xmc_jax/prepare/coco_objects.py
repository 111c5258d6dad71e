"""Objects that people outlined in COCO's images: instances_*.json of any year.

The labels of an image are the categories of its objects, areas are summed by category. Outlines of
crowds (`iscrowd` 1: one outline around a group of one category) count as any other: what they cover
is of that category. They are marked in `crowd`.
"""
from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from xmc_jax.prepare import archives
from xmc_jax.types import UserError


class Marks(NamedTuple):
  """What the objects of an image say of it: fields of `Raw`."""
  labels: tuple[int, ...]
  areas: tuple[float, ...]
  more: dict[str, Any]


def marks(label: Sequence[int], area: Sequence[float], box: Sequence[Sequence[float]],
          crowd: Sequence[bool], width: int, height: int) -> Marks:
  """Sums up the objects of an image.

  Args:
    label: of each object, its number among the names of classes.
    area: of each object, in pixels.
    box: of each object, x, y, width, height in pixels.
    crowd: whether an object is a crowd.
    width, height: of the image, in pixels.

  Returns:
    Labels ascending, each once; the share of the image that each covers, at least one pixel and
    at most all (objects overlap); {"size": [width, height], "boxes": …, "box_labels": …,
    "crowd": …} in pixels of the original image.
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
  """The objects of many images in flat arrays; those of row i are `starts[i]` to `starts[i+1]`.

  label int16 [m], area float64 [m], box float32 [m, 4], crowd bool [m]; starts int64 [n+1],
  size int32 [n, 2] of the images
  """
  class_names: tuple[str, ...]
  starts: np.ndarray
  label: np.ndarray
  area: np.ndarray
  box: np.ndarray
  crowd: np.ndarray
  size: np.ndarray

  def marks(self, row: int) -> Marks:
    """The objects of a row, see `marks`."""
    own = slice(self.starts[row], self.starts[row + 1])
    return marks(self.label[own].tolist(), self.area[own].tolist(), self.box[own].tolist(),
                 self.crowd[own].tolist(), *self.size[row].tolist())


def read_objects(path: pathlib.Path, name: str, ids: Sequence[int],
                 left_out: Callable[[str, int], None]) -> Objects:
  """Reads instances_*.json, from a file or a zip of annotations.

  Both halves of COCO-14 take some 25 s of one core and 1.3 GB at the peak: the outlines are dropped
  while they are read.

  Args:
    path: of the file, or of the zip.
    name: of the member, where it is a zip.
    ids: of the images, in the order of the rows.
    left_out: is told why and how many objects, or labels, there are none of.

  Raises:
    UserError: if it is not JSON, or not as COCO has it.
  """
  facts = read_json(path, name, drop='segmentation')
  with shaped_like_coco(path, name):
    categories = sorted(facts['categories'], key=lambda category: category['id'])
    number = {category['id']: i for i, category in enumerate(categories)}
    sizes = {image['id']: (image['width'], image['height']) for image in facts['images']}
    rows = {one: row for row, one in enumerate(ids)}
    found, missed = _sorted_in(facts['annotations'], rows, number)
    for why, count in missed.items():
      left_out(why, count)
    of_row = np.array([rows[one['image_id']] for one in found], np.int64)
    starts = np.searchsorted(of_row, np.arange(len(ids) + 1))
    left_out('labels: images without objects, which are kept', int((np.diff(starts) == 0).sum()))
    return Objects(
        tuple(category['name'] for category in categories), starts,
        np.array([number[one['category_id']] for one in found], np.int16),
        np.array([one['area'] for one in found], np.float64),
        np.array([one['bbox'] for one in found], np.float32).reshape(-1, 4),
        np.array([one['iscrowd'] for one in found], bool),
        np.array([sizes[one] for one in ids], np.int32).reshape(-1, 2))


def _sorted_in(annotations: Sequence[Mapping[str, Any]], rows: Mapping[int, int],
               number: Mapping[int, int]) -> tuple[list[Mapping[str, Any]], Counter]:
  """Objects by row, then by their own number; and why others are left out."""
  missed, found = Counter(), []
  for one in annotations:
    if one['image_id'] not in rows:
      missed['objects of images that are not in the data set'] += 1
    elif one['category_id'] not in number:
      missed['objects of a category that the file does not name'] += 1
    else:
      found.append(one)
  return sorted(found, key=lambda one: (rows[one['image_id']], one['id'])), missed


def read_json(path: pathlib.Path, name: str, drop: str = '') -> Any:
  """A JSON file, or the member `name` of a zip, without the values of the keys `drop`."""
  def without(found: dict[str, Any]) -> dict[str, Any]:
    found.pop(drop, None)
    return found
  try:
    return json.loads(archives.read(path, name), object_hook=without if drop else None)
  except ValueError as error:
    raise UserError(f'{told(path, name)} is not JSON ({error}); download it again.') from error


@contextlib.contextmanager
def shaped_like_coco(path: pathlib.Path, name: str) -> Iterator[None]:
  """In this context a missing key, or a value of another kind, is the file's fault."""
  try:
    yield
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise UserError(f'{told(path, name)} is not as COCO publishes it ({type(error).__name__}: '
                    f'{error}); download it again.') from error


def told(path: pathlib.Path, name: str) -> str:
  """How a file, or a member of a zip, is called in messages."""
  return f'{name} in {path}' if path.suffix == '.zip' else str(path)
