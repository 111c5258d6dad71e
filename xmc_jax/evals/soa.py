"""Semantic object accuracy, SOA (Hinz et al., arXiv 1910.13321): does the image show the object?

For each of COCO's 80 classes there is a file of captions that mention it. A detector looks for the
class in images generated from these captions. The public scorer uses YOLOv3 at 256 px, objectness
of at least 0.5 and non-maximum suppression at an overlap of 0.4; figures of other detectors are not
comparable. Either pass a `Detector` to `hits`, or let `write_images` write the images for the
public scorer:

  FOLDER/label_01_bicycle/00012_0.png      caption 12 of label_01_bicycle.pkl, its first image

The scorer takes every entry of FOLDER for a class and the two digits after `label_` for its number
(COCO's 80 classes from 0). It counts PNG and JPEG files whatever their names, and takes a .pkl for
boxes, so nothing else may be there. Its overlaps (SOA-IoU) need a layout as input and are left out.

`xmc_jax.evaluate_soa.evaluate_soa` does all of this for a trained run.
"""
from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from xmc_jax.types import UserError
from xmc_jax.utils import image_io
from xmc_jax.weight_files import pickles

PERSON = 0
EACH = 3  # images per caption
PERSONS = 30_000  # captions of the class person, which has many more; one image each
THRESHOLD = 0.5
NAME = re.compile(r'label_(\d\d)_\w+')


class Detection(NamedTuple):
  """A detected object; `box` is x, y, width and height as fractions of the image's sides."""
  label: int
  score: float
  box: tuple[float, float, float, float]


class Detector(Protocol):
  """Object detector: uint8 [b, h, w, 3] -> detections of each image, after suppression.

  Labels are COCO's 80 classes from 0 in the usual order. The score is the objectness if the network
  has one. The detector resizes the images itself.
  """

  def __call__(self, images: np.ndarray) -> Sequence[Sequence[Detection]]: ...


class ClassCaptions(NamedTuple):
  """A class: its number, the name of its file without .pkl, and the captions that mention it."""
  label: int
  name: str
  captions: tuple[str, ...]


class Soa(NamedTuple):
  """`by_class` (SOA-C) is a mean over classes, `by_image` (SOA-I) over images; all in [0, 1].

  `top` and `bottom` are means over the half of the classes with the most and the fewest images; for
  80 classes, the published Top-40 and Bot-40. `classes` has the share of each class.
  """
  by_class: float
  by_image: float
  top: float
  bottom: float
  classes: dict[int, float]


def read_captions(folder: str | os.PathLike[str]) -> list[ClassCaptions]:
  """Reads the public caption files, such as `label_01_bicycle.pkl`, sorted by number.

  Each is a list of dicts with the key `caption`.

  Raises UserError if there is no such file, two have the same number, or one is damaged or holds
  something else.
  """
  classes = [_read(path) for path in sorted(pathlib.Path(folder).glob('*.pkl'))
             if NAME.fullmatch(path.stem)]
  if not classes:
    raise UserError(f'there are no caption files in {folder}; expected files of the authors of SOA '
                    'with names like label_01_bicycle.pkl')
  if len({c.label for c in classes}) < len(classes):
    raise UserError(f'two caption files in {folder} have the same number; keep one of them')
  return classes


def requests(label: int, captions: int, seed: int = 0) -> list[tuple[int, int]]:
  """(index of the caption, copy) of every image that a class with this many captions needs.

  Three images per caption. For the class person, one image for each of 30,000 captions chosen at
  random, or of all captions if there are fewer.
  """
  if label != PERSON:
    return [(row, copy) for row in range(captions) for copy in range(EACH)]
  rows = np.random.default_rng(seed).permutation(captions)[:PERSONS]
  return [(int(row), 0) for row in np.sort(rows)]


def check_folder(folder: str | os.PathLike[str],
                 images: Mapping[str, Sequence[tuple[int, int]]]) -> None:
  """Raises UserError if a folder has files which the public scorer would read with `images`.

  It counts images of any kind, and takes pickles for boxes.

  images: {name: numbers} of all classes, as `write_images` takes them.
  """
  wanted = {path for name, numbers in images.items() for path in _paths(folder, name, numbers)}
  there = (path for path in pathlib.Path(folder).glob('*/*')
           if NAME.fullmatch(path.parent.name) and not path.name.startswith('.'))
  if other := next((path for path in sorted(there) if path not in wanted), None):
    raise UserError(f'--out={folder}: {other} is there and not of these images, and the scorer '
                    'would read it; give a new folder')


def _paths(folder: str | os.PathLike[str], name: str, numbers: Sequence[tuple[int, int]]
           ) -> list[pathlib.Path]:
  return [pathlib.Path(folder, name, f'{row:05d}_{copy}.png') for row, copy in numbers]


def write_images(folder: str | os.PathLike[str], name: str, numbers: Sequence[tuple[int, int]],
                 images: np.ndarray) -> list[pathlib.Path]:
  """Writes a batch in the public scorer's layout (see above); existing files are replaced.

  folder: of all classes; created if missing.
  name: of the class's caption file, such as `label_01_bicycle`.
  numbers: (caption, copy) of each image, as returned by `requests`.
  images: uint8 [b, h, w, 3].
  """
  if not NAME.fullmatch(name):
    raise UserError(f'the class name {name!r} must be like label_01_bicycle; the SOA scorer reads '
                    'the class number from it')
  images = _uint8(images)
  if len(numbers) != len(images):
    raise ValueError(f'{len(numbers)} numbers but {len(images)} images')
  paths = _paths(folder, name, numbers)
  for path, image in zip(paths, images):
    image_io.save_png(path, image)
  return paths


def hits(detector: Detector, images: np.ndarray, label: int,
         threshold: float = THRESHOLD) -> np.ndarray:
  """Whether the class is found at least once in each image uint8 [b, h, w, 3]: bool [b]."""
  images = _uint8(images)
  found = detector(images)
  if len(found) != len(images):
    raise ValueError(f'the detector returned {len(found)} results for {len(images)} images')
  return np.array([any(x.label == label and x.score >= threshold for x in detections)
                   for detections in found], bool)


def soa(found: Mapping[int, np.ndarray]) -> Soa:
  """SOA from {class: `hits` of its images, bool [n]}, for at least two classes.

  If two classes have the same number of images, the one with the lower label counts as smaller (the
  public scorer uses the order of the file system). Of an odd number of classes, the middle one is
  in the upper half.

  Raises UserError for fewer than two classes, or a class without images.
  """
  rows = {label: np.asarray(values, bool).ravel() for label, values in sorted(found.items())}
  empty = [label for label, values in rows.items() if not len(values)]
  if len(rows) < 2 or empty:
    raise UserError('semantic object accuracy needs at least two classes with at least one image '
                    f'each; there are {len(rows)}, and without images: {empty or "none"}')
  classes = {label: float(values.mean()) for label, values in rows.items()}
  order = sorted(rows, key=lambda label: len(rows[label]))  # stable: equal ones stay by number
  half = len(order) // 2
  mean = lambda labels: float(np.mean([classes[label] for label in labels]))  # noqa: E731
  return Soa(mean(order), float(np.concatenate(list(rows.values())).mean()),
             mean(order[half:]), mean(order[:half]), classes)


def _read(path: pathlib.Path) -> ClassCaptions:
  try:
    with open(path, 'rb') as file:
      entries = pickles.Unpickler(file, {}, 'plain lists and strings').load()
    captions = tuple(entry['caption'] for entry in entries)
    if not captions or not all(isinstance(caption, str) for caption in captions):
      raise UserError('a caption in it is not a string' if captions else 'it has no captions')
  except Exception as error:  # a damaged pickle can fail in any way
    raise UserError(f'the captions {path} cannot be read: {error}') from error
  return ClassCaptions(int(NAME.fullmatch(path.stem)[1]), path.stem, captions)


def _uint8(images: np.ndarray) -> np.ndarray:
  images = np.asarray(images)
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
    raise ValueError(f'images must be uint8 [b, h, w, 3], not {images.dtype} {images.shape}')
  return images
