"""CLIP score: the cosine of an image and its caption in CLIP's space; and the codes of CMMD.

What others call CLIP score differs, so a figure needs its network, its prefix and its factor:

  clip_score(images, texts, 2.5, nonnegative=True), `PREFIX`   CLIPScore of Hessel et al. (arXiv
                                                               2104.08718), ViT-B/32
  clip_score(images, texts, 1.0), no prefix                    GALIP (ViT-B/32), the raw cosine
  clip_score(images, texts), no prefix                         the rest: 100 times the cosine

GigaGAN's script for COCO-30k writes `PREFIX` before each caption too. A CLIP that was in a loss of
the generator, or a larger one trained on the same images, is no independent judge of it: GALIP's
0.334 is by the very network that it optimises.

CMMD (Jayasumana et al., arXiv 2401.09603) compares codes of images alone, of `clip.LARGE`:

  ClipEncoder(clip.LARGE).images(images, crop_first=True)    unit length, for the kernel's maths

Its reference code crops the centre square of a file, resizes it to 336 with Pillow's bicubic and
gives the network codes of unit length, as here; it drops the images that do not fill the last
batch, and here none is dropped.
"""
from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence

import jax
import numpy as np

from xmc_jax.encoders import clip
from xmc_jax.encoders.clip_inputs import ClipTokenizer, prepare
from xmc_jax.evals.extract import Reader
from xmc_jax.types import UserError
from xmc_jax.utils.arrays import unit
from xmc_jax.weight_files import files

PREFIX = 'A photo depicts '


def clip_score(
    image_embeddings: np.ndarray, text_codes: np.ndarray, factor: float = 100.0, *,
    nonnegative: bool = False) -> tuple[float, float]:
  """The mean cosine of rows, times `factor`, and the standard error of that mean.

  Args:
    image_embeddings, text_codes: [n, d], image i drawn from caption i; of any length but zero.
    factor: 100 for a figure in per cent, 2.5 for Hessel et al., 1 for the cosine itself.
    nonnegative: counts a negative cosine as 0, as Hessel et al. do.
  Returns:
    (mean, standard error), the latter with n - 1 degrees of freedom; rows are taken as independent,
    which those of one image's several captions are not.
  Raises:
    UserError: fewer than two rows.
  """
  a, b = np.asarray(image_embeddings, np.float64), np.asarray(text_codes, np.float64)
  if a.shape != b.shape:
    raise ValueError(f'image codes {list(a.shape)} and text codes {list(b.shape)} must be of the '
                     'same rows')
  if len(a) < 2:
    raise UserError(f'A CLIP score with its standard error needs 2 images, not {len(a)}; '
                    'evaluate more.')
  cosines = np.sum(a * b, 1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
  scores = factor * (np.maximum(cosines, 0) if nonnegative else cosines)
  return float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(len(scores)))


class ClipEncoder:
  """Codes of unit length of images and captions, by one CLIP.

  Every call of the network has the same shape, `batch` rows; the last rows of all are padded.
  """

  def __init__(self, name_or_path: str | os.PathLike[str] = clip.BASE, batch: int = 64):
    """Reads the network of a folder, as `clip.find` finds it; UserError where it cannot."""
    folder = clip.find(name_or_path)
    module, self._variables = clip.load(folder)
    self._tokenizer = ClipTokenizer(folder)
    self._side, self._batch = module.config.side, batch
    self._name, self.sha256 = folder.name, files.sha256(clip.weights_of(folder))
    self._image, self._text = (
      jax.jit(lambda variables, x, method=method: unit(module.apply(variables, x, method=method)))
      for method in ('image', 'text'))

  def reader(self, *, crop_first: bool = False) -> Reader:
    """What `images` does, for a `Collector`."""
    return Reader(self._name, self._variables, self._image,
                  functools.partial(prepare, side=self._side, crop_first=crop_first), self.sha256)

  def images(self, images: Sequence[np.ndarray], *, crop_first: bool = False) -> np.ndarray:
    """Codes of images, float32 [n, d].

    Args:
      images: uint8 [n, h, w, 3], or n images [h, w, 3] of any sizes, as PNG files hold them.
      crop_first: as CMMD's reference code; only images that are not square tell a difference.
    """
    return self._codes(
      self._image, lambda rows: prepare(rows, self._side, crop_first=crop_first), images)

  def captions(self, captions: Sequence[str], prefix: str = '') -> np.ndarray:
    """Codes of captions with `prefix` before each, float32 [n, d]; cut after 77 tokens."""
    return self._codes(
      self._text, self._tokenizer.encode, [f'{prefix}{caption}' for caption in captions])

  def _codes(self, network: Callable, make: Callable, rows: Sequence) -> np.ndarray:
    """`network` of what `make` makes of `rows`, a batch at a time."""
    embeddings = []
    for start in range(0, len(rows), self._batch):
      x = make(rows[start:start + self._batch])
      padded = np.pad(x, [(0, self._batch - len(x))] + [(0, 0)] * (x.ndim - 1))
      embeddings.append(np.asarray(network(self._variables, padded))[:len(x)])
    return np.concatenate(embeddings)
