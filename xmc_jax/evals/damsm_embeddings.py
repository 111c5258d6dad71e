"""Image and caption embeddings of a trained DAMSM: for R-precision as in AttnGAN and DM-GAN.

The same network is usually also in the loss of those generators. A DAMSM other than the one of the
training gives a more independent figure.
"""
from __future__ import annotations

import functools
import os
from collections.abc import Sequence

import jax
import numpy as np

from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import damsm
from xmc_jax.evals.batches import in_batches
from xmc_jax.evals.extract import FeatureExtractor
from xmc_jax.utils.arrays import unit
from xmc_jax.weight_files import hf_folders

LENGTH = 25      # words per caption, AttnGAN's number for CUB; the rest is cut


class DamsmEmbeddings:
  """Unit-length embeddings of images and captions, float32 [n, d], in batches of one shape."""

  def __init__(self, folder: str | os.PathLike[str], batch: int = 64):
    """Loads a DAMSM, found as by `damsm.find`. UserError if that fails."""
    folder = damsm.find(folder)
    module, self._variables = damsm.load(folder)
    self._tokenizer, self._batch = Tokenizer(folder, LENGTH, rows=module.vocabulary), batch
    self.sha256 = hf_folders.sha256(folder)
    self._image = jax.jit(
        lambda variables, x: unit(module.apply(variables, x / 255, method='image').embedding))
    self._text = jax.jit(
        lambda variables, *text: unit(module.apply(variables, *text, method='text').sentence))

  def extractor(self) -> FeatureExtractor:
    """The same as `images`, as an extractor for a `FeatureCollector`."""
    return FeatureExtractor('damsm', self._variables, self._image, sha256=self.sha256)

  def images(self, images: np.ndarray) -> np.ndarray:
    """Embeddings of images uint8 [n, h, w, 3]."""
    return self._embed(self._image, images)

  def captions(self, captions: Sequence[str]) -> np.ndarray:
    """Embeddings of captions."""
    return self._embed(self._text, *self._tokenizer.encode(captions))

  def _embed(self, network, *inputs: np.ndarray) -> np.ndarray:
    return in_batches(functools.partial(network, self._variables), *inputs, batch=self._batch)
