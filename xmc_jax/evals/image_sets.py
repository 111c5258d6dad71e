"""Sets of images to evaluate: a folder of files, a split of a data set, or an array."""
from __future__ import annotations

import concurrent.futures
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from xmc_jax.data import records
from xmc_jax.data.image_folder import SUFFIXES, find_images, upright
from xmc_jax.data.source import Source
from xmc_jax.types import UserError
from xmc_jax.utils import machine

_THREADS = min(16, machine.cores())


class ImageSet(Protocol):
  """Images of one size. `name` is shown in messages and stored in manifests."""
  name: str

  def __len__(self) -> int: ...

  def read(self, indices: Sequence[int]) -> np.ndarray:
    """The images at `indices`, uint8 [n, h, w, 3]."""


class FolderImages:
  """All images in a folder, found, ordered and turned upright as in `data.image_folder`.

  `skipped` counts hidden files and folders. Images are never converted silently, because a score
  would then partly measure the conversion.

  Raises:
    UserError: the folder does not exist or has no images. When read: a file is damaged, grayscale,
      indexed or transparent, or differs in size from the first one. Messages start with `flag`.
  """

  def __init__(self, path: str | os.PathLike[str], flag: str):
    self.name, self._flag = str(path), flag
    found = find_images(path, flag)
    self.paths, self.skipped = tuple(found.paths.values()), found.skipped()
    if not self.paths:
      raise UserError(f'{flag}: {path} holds no images ({", ".join(SUFFIXES)}); give the folder of '
                      'the images, or one that `xmc prepare` made')
    self._shape = self._open(self.paths[0]).shape

  def __len__(self) -> int:
    return len(self.paths)

  def read(self, indices: Sequence[int]) -> np.ndarray:
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
      images = list(pool.map(self._open, [self.paths[i] for i in indices]))
    for i, image in zip(indices, images):
      if image.shape != self._shape:
        raise UserError(
            f'{self._flag}: {self.paths[i]} has {_size(image.shape)} pixels and '
            f'{self.paths[0]} {_size(self._shape)}; resize all images to one size first')
    return np.stack(images)

  def _open(self, path: pathlib.Path) -> np.ndarray:
    try:
      with Image.open(path) as image:
        image = upright(image)
        if image.mode != 'RGB' or image.has_transparency_data:
          what = f'mode {image.mode}, not RGB' if image.mode != 'RGB' else 'a transparent color'
          raise UserError(f'{self._flag}: {path} has {what}; convert grayscale, indexed and '
                          'transparent images to RGB first')
        return np.asarray(image)
    except UserError:
      raise
    except Exception as error:  # Pillow raises many kinds of errors for broken and for huge files
      raise UserError(f'{self._flag}: {path} cannot be read as an image ({error}); '
                      'replace or remove it') from error


class SplitImages:
  """The images of one split of a data set, center-cropped."""

  def __init__(self, source: Source, split: str):
    self.name, self._source = f'{source.name}/{split}', source

  def __len__(self) -> int:
    return len(self._source)

  def read(self, indices: Sequence[int]) -> np.ndarray:
    if self._source.images is not None:
      return self._source.images[np.asarray(indices)]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
      return np.stack(list(pool.map(self._source.image, [int(i) for i in indices])))


def is_prepared(folder: str | os.PathLike[str]) -> bool:
  """Whether a folder holds a prepared data set, which has splits; it may be damaged."""
  folder = pathlib.Path(folder).expanduser()
  return records.has_manifest(folder) or any(map(records.is_shard, folder.glob('*.rec')))


def open_images(path: str | os.PathLike[str], flag: str, split: str,
                side: int | None = None) -> ImageSet:
  """A folder of images; or a split of a prepared data set, at the size `side` if it is smaller.

  Prints what was skipped. UserError as of `FolderImages` and `records.load`.
  """
  folder = pathlib.Path(path).expanduser()
  if is_prepared(folder):
    prepared = int(records.read_manifest(folder)['size'])
    source = records.load(split, min(prepared, side or prepared), folder)
    images = SplitImages(source, split)
    images.name = f'{path}, {split}'
    return images
  images = FolderImages(folder, flag)
  for what, count in images.skipped.items():
    print(f'{images.name}: skipped {count:,} {what}')
  return images


def fingerprint(images: ImageSet, batch: int = 64) -> str:
  """sha256 of the number, size and pixels of all images, in order; independent of `batch`."""
  digest = hashlib.sha256()
  for start in range(0, len(images), batch):
    part = images.read(range(start, min(start + batch, len(images))))
    if not start:
      digest.update(repr((len(images), part.shape[1:])).encode())
    digest.update(np.ascontiguousarray(part).data)
  return digest.hexdigest()


def _size(shape: Sequence[int]) -> str:
  return f'{shape[1]} x {shape[0]}'
