"""Unit-length embeddings of images and captions by a CLIP or by a trained DAMSM.

A DAMSM gives R-precision as in AttnGAN and DM-GAN. The same network is usually also in the loss of
those generators; a DAMSM other than the one of the training gives a more independent figure.
"""
from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence

import jax
import numpy as np

from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import clip, damsm, registry
from xmc_jax.encoders.clip_inputs import LENGTH, preprocess
from xmc_jax.evals.batches import in_batches
from xmc_jax.evals.extract import FeatureExtractor
from xmc_jax.types import Array, Tree
from xmc_jax.utils.arrays import unit
from xmc_jax.weight_files import hf_folders

DAMSM_LENGTH = 25      # words per caption, AttnGAN's number for CUB; the rest is cut


class Embeddings:
  """Embeddings of images and captions, float32 [n, d], in batches of one shape.

  extractor: gives those of images, also in a `FeatureCollector`.
  text: (variables, tokens, mask) -> those of captions.
  """

  def __init__(self, extractor: FeatureExtractor, text: Callable[[Tree, Array, Array], Array],
               tokenizer: Tokenizer, batch: int):
    self.extractor, self._batch = extractor, batch
    self._text, self._tokenizer = jax.jit(text), tokenizer

  def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
    """Embeddings of images uint8 [n, h, w, 3]; for a CLIP, of n images of any sizes."""
    prepare, step = self.extractor.preprocess or np.asarray, self._batch
    # Prepared in batches too: the inputs of all images may not fit.
    return np.concatenate([self._embed(self.extractor.apply, prepare(images[i:i + step]))
                           for i in range(0, len(images), step)])

  def captions(self, captions: Sequence[str], prefix: str = '') -> np.ndarray:
    """Embeddings of captions, each after `prefix`; long ones are cut."""
    return self._embed(self._text, *self._tokenizer.encode([prefix + x for x in captions]))

  def _embed(self, network, *inputs: np.ndarray) -> np.ndarray:
    return in_batches(functools.partial(network, self.extractor.variables), *inputs,
                      batch=self._batch)


def of_clip(name_or_path: str | os.PathLike[str] = clip.BASE, batch: int = 64, *,
            crop_first: bool = False) -> Embeddings:
  """Those of a CLIP, found as by `clip.find`; UserError if that fails.

  UserError too if the name is that of published weights and these are others.
  crop_first: crop images before resizing, as CMMD's reference code does; the result differs only
    for images that are not square.
  """
  folder = clip.find(name_or_path)
  registry.check_named(os.fspath(name_or_path), folder)
  module, variables = clip.load(folder)
  return Embeddings(
      FeatureExtractor(
          folder.name, variables,
          jax.jit(lambda variables, x: unit(module.apply(variables, x, method='image'))),
          functools.partial(preprocess, side=module.config.side, crop_first=crop_first),
          hf_folders.sha256(folder)),
      lambda variables, tokens, mask: unit(module.apply(variables, tokens, method='text')),
      Tokenizer(folder, LENGTH, kind='CLIP', rows=module.config.vocabulary), batch)


def of_damsm(folder: str | os.PathLike[str], batch: int = 64) -> Embeddings:
  """Those of a DAMSM, found as by `damsm.find`; UserError if that fails."""
  folder = damsm.find(folder)
  module, variables = damsm.load(folder)
  image = lambda variables, x: unit(module.apply(variables, x / 255, method='image').embedding)
  return Embeddings(
      FeatureExtractor('damsm', variables, jax.jit(image), sha256=hf_folders.sha256(folder)),
      lambda variables, *text: unit(module.apply(variables, *text, method='text').sentence),
      Tokenizer(folder, DAMSM_LENGTH, rows=module.vocabulary), batch)
