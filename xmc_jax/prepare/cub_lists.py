"""The lists of CUB-200-2011: names, species and boxes of 11,788 images."""
from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

from xmc_jax.types import UserError
from xmc_jax.utils.text_lines import read_lines

ADDRESS = 'https://www.vision.caltech.edu/datasets/cub_200_2011/'
FOLDER = 'CUB_200_2011'


@dataclasses.dataclass(frozen=True)
class Birds:
  """Contents of the lists.

  Attributes:
    images: folder of the images.
    class_names: of the species, such as "001.Black_footed_Albatross".
    numbers: {name: image number}; names are those of images.txt without ".jpg", in its order.
    labels: {image number: index in `class_names`}.
    boxes: {image number: x, y, width, height of the bird in pixels}.
  """
  images: pathlib.Path
  class_names: tuple[str, ...]
  numbers: Mapping[str, int]
  labels: Mapping[int, int]
  boxes: Mapping[int, tuple[float, float, float, float]]


def read_birds(source: pathlib.Path) -> tuple[Birds, dict[str, str]]:
  """Reads the lists; returns them and {name of a list: its path}.

  Raises:
    UserError: something is missing, damaged or contradicts the rest.
  """
  root = _root(source)
  lists = {name: root / f'{name}.txt' for name in (
    'images', 'image_class_labels', 'classes', 'bounding_boxes')}
  tables = {name: read_table(path) for name, path in lists.items()}
  names, species = tables['images'], tables['classes']
  for name in ('image_class_labels', 'bounding_boxes'):
    lost = names.keys() - tables[name].keys()
    if lost:
      raise UserError(f'{lists[name]} has no line for image {min(lost)} of images.txt; extract '
                      f'{FOLDER}.tgz from {ADDRESS} again')
  places = {number: place for place, number in enumerate(species)}
  birds = Birds(
    root / 'images', tuple(species.values()),
    {name.removesuffix('.jpg'): number for number, name in names.items()},
    {number: _number(lists['image_class_labels'], number, text, places)
     for number, text in tables['image_class_labels'].items()},
    {number: _box(lists['bounding_boxes'], number, text)
     for number, text in tables['bounding_boxes'].items()})
  return birds, {path.name: str(path) for path in lists.values()}


def read_table(path: pathlib.Path) -> dict[int, str]:
  """Reads a list whose lines start with a number; returns {number: rest of the line}.

  Raises:
    UserError: the file is missing or damaged.
  """
  found = {}
  try:
    for line in read_lines(path):
      number, _, rest = line.partition(' ')
      if int(number) in found or not rest:
        raise ValueError(f'line {line!r}')
      found[int(number)] = rest.strip()
  except (UserError, ValueError) as error:
    raise _damaged(path, error) from error
  if not found:
    raise _damaged(path, 'it is empty')
  return found


def _root(source: pathlib.Path) -> pathlib.Path:
  for root in (source, source / FOLDER):
    if (root / 'images.txt').is_file():
      if not (root / 'images').is_dir():
        raise UserError(f'{root} has no images/; extract {FOLDER}.tgz from {ADDRESS} again')
      return root
  archives = [source] if source.suffix in ('.tgz', '.gz') else sorted(source.glob(f'{FOLDER}.t*gz'))
  if archives and archives[0].is_file():
    raise UserError(f'{archives[0]} cannot be read in place; extract it with: tar -xzf '
                    f'{archives[0]} -C {archives[0].parent}, and give the folder '
                    f'{archives[0].parent}')
  raise UserError(f'{source} has no {FOLDER}/images.txt; download {FOLDER}.tgz from {ADDRESS} into '
                  'that folder and extract it there')


def _number(path: pathlib.Path, number: int, text: str, places: Mapping[int, int]) -> int:
  try:
    return places[int(text)]
  except (ValueError, KeyError) as error:
    raise _damaged(path, f'image {number} has the species {text!r}') from error


def _box(path: pathlib.Path, number: int, text: str) -> tuple[float, float, float, float]:
  try:
    x, y, width, height = (float(word) for word in text.split())
  except ValueError as error:
    raise _damaged(path, f'image {number} has the box {text!r}') from error
  return x, y, width, height


def _damaged(path: pathlib.Path, why: object) -> UserError:
  return UserError(f'{path} cannot be read ({why}); extract {FOLDER}.tgz from {ADDRESS} again')
