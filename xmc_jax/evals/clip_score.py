"""CLIP score, the cosine of an image and its caption in CLIP's space; and embeddings for CMMD.

Several different numbers are called CLIP score, so a figure needs its network, prefix and factor:

  clip_score(images, texts, 2.5, nonnegative=True), `PREFIX`   CLIPScore of Hessel et al. (arXiv
                                                               2104.08718), ViT-B/32
  clip_score(images, texts, 1.0), no prefix                    GALIP (ViT-B/32), the raw cosine, of
                                                               images prepared by `clip_inputs`'
                                                               mode 'released'
  clip_score(images, texts), no prefix                         most others: 100 times the cosine

GigaGAN's script for COCO-30k also puts `PREFIX` before each caption. A CLIP that was part of a
generator's loss, or a larger one trained on the same images, is not an independent measure of that
generator: GALIP's 0.334 comes from the very network that it optimizes.

CMMD (Jayasumana et al., arXiv 2401.09603) compares embeddings of images alone, by `clip.LARGE`:

  embeddings.of_clip(clip.LARGE, crop_first=True).images(images)    unit vectors, for the kernel

Its reference code crops the center square of a file, resizes it to 336 with Pillow's bicubic filter
and normalizes the embeddings to unit length, as is done here. It drops the images that do not fill
the last batch; here none is dropped.
"""
from __future__ import annotations

import numpy as np

from xmc_jax.types import UserError

PREFIX = 'A photo depicts '


def clip_score(
    image_embeddings: np.ndarray, text_embeddings: np.ndarray, factor: float = 100.0, *,
    nonnegative: bool = False) -> tuple[float, float]:
  """The mean cosine of image i and text i, times `factor`, and the standard error of the mean.

  image_embeddings, text_embeddings: [n, d], of any nonzero length.
  factor: 100 for percent, 2.5 for Hessel et al., 1 for the cosine itself.
  nonnegative: count a negative cosine as 0, as Hessel et al. do.

  Returns (mean, standard error). The standard error has n - 1 degrees of freedom and assumes
  independent examples, which several captions of one image are not. Raises UserError for fewer than
  two examples.
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
