"""Semantic object accuracy (Hinz et al., arXiv 1910.13321): is the thing of the caption to be seen?

For each of COCO's 80 classes there is a file of captions that name it; a detector looks for the
class in images drawn from them. The public scorer takes YOLOv3 at 256 px, objectness at least
0.5 and non-maximum suppression at an overlap of 0.4; figures of other detectors do not compare.
Either a `Detector` is given here, or `write_images` lays the images out for the public scorer:

  FOLDER/label_01_bicycle/00012_0.png      caption 12 of label_01_bicycle.pkl, its first image

The scorer takes every entry of FOLDER for a class and the two digits after `label_` for its number
(COCO's 80 classes from 0), counts the PNG and JPEG files whatever their names, and takes a .pkl for
boxes: nothing else may lie there. Its overlaps (SOA-IoU) need a layout as input and are left out.
"""
from __future__ import annotations

import os
import pathlib
import pickle
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from xmc_jax.types import UserError
from xmc_jax.utils import image_io

PERSON = 0
EACH = 3  # images of a caption
PERSONS = 30_000  # captions of the class person, which has far more, one image each
THRESHOLD = 0.5
NAME = re.compile(r'label_(\d\d)_\w+')


class Detection(NamedTuple):
  """A thing that was found; `box` is x, y, width and height as shares of the image's sides."""

  label: int
  score: float
  box: tuple[float, float, float, float]


class Detector(Protocol):
  """Finds things: uint8 [b, h, w, 3] -> for each image its detections, after suppression.

  Class numbers are COCO's 80 from 0 in the usual order. A score is the objectness where the network
  has one. Resizing is the detector's affair.
  """

  def __call__(self, images: np.ndarray) -> Sequence[Sequence[Detection]]: ...


class ClassCaptions(NamedTuple):
  """A class: its number, its file's name without .pkl, and the captions that name it."""

  label: int
  name: str
  captions: tuple[str, ...]


class Soa(NamedTuple):
  """SOA-C and its halves are means of classes, SOA-I is the mean of images; all in [0, 1].

  `top` and `bottom` are of the classes with the most and the fewest images: of 80 classes the
  published Top-40 and Bot-40. `classes` has each class's share.
  """

  by_class: float
  by_image: float
  top: float
  bottom: float
  classes: dict[int, float]


class _Plain(pickle.Unpickler):
  """Reads containers, numbers and strings; what would run something is refused."""

  def find_class(self, module, name):
    raise UserError(f'it asks for {module}.{name}, and only plain lists and strings are allowed')


def read_captions(folder: str | os.PathLike[str]) -> list[ClassCaptions]:
  """The public files `label_01_bicycle.pkl`, lists of dicts with the key `caption`, by number.

  Raises:
    UserError: no such file, two of one number, or a file is damaged or holds anything else.
  """
  classes = [_read(path) for path in sorted(pathlib.Path(folder).glob('*.pkl'))
             if NAME.fullmatch(path.stem)]
  if not classes:
    raise UserError(f'There are no caption files in {folder}: expected names like '
                    'label_01_bicycle.pkl, from the authors of SOA.')
  if len({c.label for c in classes}) < len(classes):
    raise UserError(f'Two caption files in {folder} have the same number; keep one of them.')
  return classes


def requests(label: int, captions: int, seed: int = 0) -> list[tuple[int, int]]:
  """(number of the caption, copy) of every image that a class of so many captions asks for.

  Three copies of each; of the class person one of each of 30,000 drawn at random, or of all if
  there are not as many.
  """
  if label != PERSON:
    return [(row, copy) for row in range(captions) for copy in range(EACH)]
  rows = np.random.default_rng(seed).permutation(captions)[:PERSONS]
  return [(int(row), 0) for row in np.sort(rows)]


def write_images(folder: str | os.PathLike[str], name: str, numbers: Sequence[tuple[int, int]],
                   images: np.ndarray) -> list[pathlib.Path]:
  """Writes a batch into the public scorer's layout, see above; a file that is there is replaced.

  Args:
    folder: of all classes; made where missing.
    name: of the class's caption file, such as `label_01_bicycle`.
    numbers: (caption, copy) of each image, as `requests` gives them.
    images: uint8 [b, h, w, 3].
  """
  if not NAME.fullmatch(name):
    raise UserError(f'The class {name!r} has no name like label_01_bicycle, from which the SOA '
                    'scorer reads its number.')
  images = _uint8(images)
  if len(numbers) != len(images):
    raise ValueError(f'{len(numbers)} numbers but {len(images)} images')
  paths = [pathlib.Path(folder, name, f'{row:05d}_{copy}.png') for row, copy in numbers]
  for path, image in zip(paths, images):
    image_io.save_png(path, image)
  return paths


def hits(detector: Detector, images: np.ndarray, label: int,
         threshold: float = THRESHOLD) -> np.ndarray:
  """In which images, uint8 [b, h, w, 3], the class is found at least once: bool [b]."""
  images = _uint8(images)
  found = detector(images)
  if len(found) != len(images):
    raise ValueError(f'the detector said something of {len(found)} of {len(images)} images')
  return np.array([any(thing.label == label and thing.score >= threshold for thing in things)
                   for things in found], bool)


def soa(found: Mapping[int, np.ndarray]) -> Soa:
  """From {class: the `hits` of its images, bool [n]}, two classes at least.

  Where two classes have as many images, the one with the lower number counts as smaller (the
  public scorer takes the order of the file system). Of an odd number of classes the middle one is
  in the upper half.

  Raises:
    UserError: fewer than two classes, or a class without images.
  """
  rows = {label: np.asarray(values, bool).ravel() for label, values in sorted(found.items())}
  empty = [label for label, values in rows.items() if not len(values)]
  if len(rows) < 2 or empty:
    raise UserError('Semantic object accuracy needs two classes or more with at least one image '
                    f'each; there are {len(rows)}, and without images: {empty or "none"}.')
  classes = {label: float(values.mean()) for label, values in rows.items()}
  order = sorted(rows, key=lambda label: len(rows[label]))  # stable: equal ones stay by number
  half = len(order) // 2
  mean = lambda labels: float(np.mean([classes[label] for label in labels]))  # noqa: E731
  return Soa(mean(order), float(np.concatenate(list(rows.values())).mean()),
             mean(order[half:]), mean(order[:half]), classes)


def _read(path: pathlib.Path) -> ClassCaptions:
  try:
    with open(path, 'rb') as file:
      entries = _Plain(file).load()
    captions = tuple(entry['caption'] for entry in entries)
    if not all(isinstance(caption, str) for caption in captions):
      raise UserError('a caption in it is no text')
  except Exception as error:  # a damaged pickle can fail in any way
    raise UserError(f'The captions {path} cannot be read: {error}.') from error
  return ClassCaptions(int(NAME.fullmatch(path.stem)[1]), path.stem, captions)


def _uint8(images: np.ndarray) -> np.ndarray:
  images = np.asarray(images)
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
    raise ValueError(f'images must be uint8 [b, h, w, 3], not {images.dtype} {images.shape}')
  return images
