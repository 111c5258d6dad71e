"""CLIP score, the cosine of an image and its caption in CLIP's space; and embeddings for CMMD.

Several different numbers are called CLIP score, so a figure needs its network, prefix and factor:

  clip_score(images, texts, 2.5, nonnegative=True), `PREFIX`   CLIPScore of Hessel et al. (arXiv
                                                               2104.08718), ViT-B/32
  clip_score(images, texts, 1.0), no prefix                    GALIP (ViT-B/32), the raw cosine
  clip_score(images, texts), no prefix                         most others: 100 times the cosine

GigaGAN's script for COCO-30k also puts `PREFIX` before each caption. A CLIP that was part of a
generator's loss, or a larger one trained on the same images, is not an independent measure of that
generator: GALIP's 0.334 comes from the very network that it optimizes.

CMMD (Jayasumana et al., arXiv 2401.09603) compares embeddings of images alone, by `clip.LARGE`:

  ClipEmbeddings(clip.LARGE).images(images, crop_first=True)    unit vectors, as the kernel needs

Its reference code crops the center square of a file, resizes it to 336 with Pillow's bicubic filter
and normalizes the embeddings to unit length, as is done here. It drops the images that do not fill
the last batch; here none is dropped.
"""
from __future__ import annotations

import functools
import os
from collections.abc import Sequence

import jax
import numpy as np

from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import clip
from xmc_jax.encoders.clip_inputs import LENGTH, preprocess
from xmc_jax.evals.batches import in_batches
from xmc_jax.evals.extract import FeatureExtractor
from xmc_jax.types import UserError
from xmc_jax.utils.arrays import unit
from xmc_jax.weight_files import hf_folders

PREFIX = 'A photo depicts '


def clip_score(
    image_embeddings: np.ndarray, text_embeddings: np.ndarray, factor: float = 100.0, *,
    nonnegative: bool = False) -> tuple[float, float]:
  """The mean cosine of image i and text i, times `factor`, and the standard error of the mean.

  Args:
    image_embeddings, text_embeddings: [n, d], of any nonzero length.
    factor: 100 for percent, 2.5 for Hessel et al., 1 for the cosine itself.
    nonnegative: count a negative cosine as 0, as Hessel et al. do.
  Returns:
    (mean, standard error). The standard error has n - 1 degrees of freedom and assumes independent
    examples, which several captions of one image are not.
  Raises:
    UserError: fewer than two examples.
  """
  a = np.asarray(image_embeddings, np.float64)
  b = np.asarray(text_embeddings, np.float64)
  if a.shape != b.shape:
    raise ValueError(f'image embeddings {list(a.shape)} and text embeddings {list(b.shape)} must '
                     'have the same shape')
  if len(a) < 2:
    raise UserError(f'a CLIP score with its standard error needs at least 2 images, not {len(a)}; '
                    'evaluate more images')
  cosines = np.sum(a * b, 1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
  scores = factor * (np.maximum(cosines, 0) if nonnegative else cosines)
  return float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(len(scores)))


class ClipEmbeddings:
  """Unit-length embeddings of images and captions by one CLIP, in batches of one shape."""

  def __init__(self, name_or_path: str | os.PathLike[str] = clip.BASE, batch: int = 64):
    """Loads a CLIP, found as by `clip.find`. UserError if that fails."""
    folder = clip.find(name_or_path)
    module, self._variables = clip.load(folder)
    self._tokenizer = Tokenizer(folder, LENGTH, kind='CLIP', rows=module.config.vocabulary)
    self._side, self._batch = module.config.side, batch
    self._name, self.sha256 = folder.name, hf_folders.sha256(folder)
    self._image, self._text = (
      jax.jit(lambda variables, x, method=method: unit(module.apply(variables, x, method=method)))
      for method in ('image', 'text'))

  def extractor(self, *, crop_first: bool = False) -> FeatureExtractor:
    """The same as `images`, as an extractor for a `FeatureCollector`."""
    return FeatureExtractor(
        self._name, self._variables, self._image,
        functools.partial(preprocess, side=self._side, crop_first=crop_first), self.sha256)

  def images(self, images: Sequence[np.ndarray], *, crop_first: bool = False) -> np.ndarray:
    """Embeddings of images, float32 [n, d].

    Args:
      images: uint8 [n, h, w, 3], or n images [h, w, 3] of any sizes.
      crop_first: crop before resizing, as CMMD's reference code does; the result differs only for
        images that are not square.
    """
    step = self._batch     # preprocessed in batches too: the inputs of all images may not fit
    parts = [preprocess(images[i:i + step], self._side, crop_first=crop_first)
             for i in range(0, len(images), step)]
    return np.concatenate([self._embed(self._image, part) for part in parts])

  def captions(self, captions: Sequence[str], prefix: str = '') -> np.ndarray:
    """Embeddings of captions, each after `prefix`, float32 [n, d]; cut after 77 tokens."""
    tokens, _ = self._tokenizer.encode([f'{prefix}{caption}' for caption in captions])
    return self._embed(self._text, tokens)

  def _embed(self, network, inputs: np.ndarray) -> np.ndarray:
    return in_batches(functools.partial(network, self._variables), inputs, batch=self._batch)
