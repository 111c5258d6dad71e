"""Codes of images and captions by a trained DAMSM: for R-precision as AttnGAN and DM-GAN have it.

That network is also what those generators are trained to please; a figure says more where another
DAMSM gives it than the one of the training.
"""
from __future__ import annotations

import os
from collections.abc import Sequence

import jax
import numpy as np

from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import damsm
from xmc_jax.evals.extract import Reader
from xmc_jax.utils.arrays import unit
from xmc_jax.weight_files import files

LENGTH = 25      # words of a caption, AttnGAN's number for CUB; further ones are left out


class DamsmCodes:
  """Codes of unit length of images and captions, float32 [n, d].

  Every call of the network has the same shape, `batch` rows; the last rows of all are padded.
  """

  def __init__(self, folder: str | os.PathLike[str], batch: int = 64):
    """Reads the folder, as `damsm.find` finds it; UserError where it cannot."""
    folder = damsm.find(folder)
    module, self._variables = damsm.load(folder)
    self._tokenizer, self._batch = Tokenizer(folder, LENGTH), batch
    self.sha256 = files.sha256(folder / 'model.safetensors')
    self._image = jax.jit(
        lambda variables, x: unit(module.apply(variables, x / 255, method='image').code))
    self._text = jax.jit(
        lambda variables, *text: unit(module.apply(variables, *text, method='text').sentence))

  def reader(self) -> Reader:
    """What `images` does, for a `Collector`."""
    return Reader('damsm', self._variables, self._image, sha256=self.sha256)

  def images(self, images: np.ndarray) -> np.ndarray:
    """Codes of images uint8 [n, h, w, 3]."""
    return self._codes(self._image, images)

  def captions(self, captions: Sequence[str]) -> np.ndarray:
    """Codes of captions."""
    return self._codes(self._text, *self._tokenizer.encode(captions))

  def _codes(self, network, *arrays: np.ndarray) -> np.ndarray:
    """`network` of the arrays [n, ...], a batch of rows at a time."""
    embeddings = []
    for start in range(0, len(arrays[0]), self._batch):
      parts = [x[start:start + self._batch] for x in arrays]
      padded = [np.pad(x, [(0, self._batch - len(x))] + [(0, 0)] * (x.ndim - 1)) for x in parts]
      embeddings.append(np.asarray(network(self._variables, *padded))[:len(parts[0])])
    return np.concatenate(embeddings)
