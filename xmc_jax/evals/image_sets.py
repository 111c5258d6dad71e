"""A set of images to measure: a folder of files, or a data set's."""
from __future__ import annotations

import concurrent.futures
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from xmc_jax.data.source import Source
from xmc_jax.types import UserError

KINDS = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.tif', '.tiff')
_THREADS = min(16, os.cpu_count() or 1)


class Images(Protocol):
  """Images of one size. `what` names the set in messages and manifests."""
  what: str

  def __len__(self) -> int: ...

  def read(self, rows: Sequence[int]) -> np.ndarray:
    """The images of these rows, uint8 [n, h, w, 3]."""


class Folder:
  """All images in a folder and the folders in it, in the order of their paths.

  UserError for a folder that is not there or holds fewer than two images; and, when it is read,
  for a file that is damaged, grey, transparent, or of another size than the first: a measure of
  images that were silently converted would be a measure of the conversion.
  """

  def __init__(self, path: str | os.PathLike[str], flag: str):
    self.what, self._flag = str(path), flag
    folder = pathlib.Path(path).expanduser()
    if not folder.is_dir():
      raise UserError(f'{flag}: there is no folder {folder}')
    self.paths = sorted(p for p in folder.rglob('*') if p.suffix.lower() in KINDS)
    if len(self.paths) < 2:
      raise UserError(f'{flag}: {folder} holds {len(self.paths)} images ({", ".join(KINDS)}); '
                      'a distribution needs at least two')
    self._size = self._open(self.paths[0]).shape

  def __len__(self) -> int:
    return len(self.paths)

  def read(self, rows: Sequence[int]) -> np.ndarray:
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
      images = list(pool.map(self._open, [self.paths[row] for row in rows]))
    for row, image in zip(rows, images):
      if image.shape != self._size:
        raise UserError(
            f'{self._flag}: {self.paths[row]} has {_sides(image.shape)} pixels and '
            f'{self.paths[0]} {_sides(self._size)}; bring all images to one size first')
    return np.stack(images)

  def _open(self, path: pathlib.Path) -> np.ndarray:
    try:
      with Image.open(path) as image:
        image.load()
        if image.mode != 'RGB':
          raise UserError(f'{self._flag}: {path} is of mode {image.mode}, not RGB; convert grey, '
                          'indexed and transparent images to RGB first')
        return np.asarray(image)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
      raise UserError(f'{self._flag}: {path} cannot be read as an image ({error}); '
                      'replace or remove it') from error


class Split:
  """The images of one split of a data set, cropped in the middle."""

  def __init__(self, source: Source, split: str):
    self.what, self._source = f'{source.name}/{split}', source

  def __len__(self) -> int:
    return len(self._source)

  def read(self, rows: Sequence[int]) -> np.ndarray:
    if self._source.images is not None:
      return self._source.images[np.asarray(rows)]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
      return np.stack(list(pool.map(self._source.image, [int(row) for row in rows])))


class Stack:
  """Images in memory, uint8 [n, h, w, 3]."""

  def __init__(self, images: np.ndarray, what: str):
    self.what, self._images = what, images

  def __len__(self) -> int:
    return len(self._images)

  def read(self, rows: Sequence[int]) -> np.ndarray:
    return self._images[np.asarray(rows)]


def fingerprint(images: Images, at_once: int = 64) -> str:
  """sha256 of the pixels of all images, in order, and of their number and size."""
  digest = hashlib.sha256()
  for start in range(0, len(images), at_once):
    rows = images.read(range(start, min(start + at_once, len(images))))
    if not start:
      digest.update(repr((len(images), rows.shape[1:])).encode())
    digest.update(np.ascontiguousarray(rows).data)
  return digest.hexdigest()


def _sides(shape: Sequence[int]) -> str:
  return f'{shape[1]} x {shape[0]}'
