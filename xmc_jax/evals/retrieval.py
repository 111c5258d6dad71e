"""R-precision (Xu et al., AttnGAN, arXiv 1711.10485): does an image find its own caption?

The share of images whose code is nearer to their own caption's than to those of a few others.
The network of the codes decides the figure; where the same network was a loss (DAMSM in AttnGAN
and DM-GAN, CLIP in GALIP) the generator was trained to please it. DM-GAN's rule is 30,000 images,
1 own caption and 99 of other classes, cosines, and mean and spread over 10 folds:

  hits = r_precision_hits(unit(image_embeddings), unit(text_codes), among=100, avoid=class_numbers)
  mean, std = r_precision_folds(hits)

DM-GAN draws the others anew for each caption, so one may come twice; here all are of other rows.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xmc_jax.types import Array, UserError

AMONG = 16


class Folds(NamedTuple):
  """Mean and standard deviation (ddof 0) of the folds' shares."""

  mean: float
  std: float


def r_precision(
    image_embeddings: Array, text_codes: Array, group: int = AMONG, seed: int = 0, *,
    captions: Sequence[str] | None = None, avoid: Sequence | None = None) -> float:
  """The share of rows that are hits, in [0, 1]; all of it as in `r_precision_hits`."""
  hits = r_precision_hits(image_embeddings, text_codes, group, seed, captions=captions, avoid=avoid)
  return float(hits.mean())


def r_precision_hits(
    image_embeddings: Array, text_codes: Array, group: int = AMONG, seed: int = 0, *,
    captions: Sequence[str] | None = None, avoid: Sequence | None = None) -> np.ndarray:
  """Which rows' own text is strictly nearer than `among - 1` others: bool [n]; a tie is a miss.

  Args:
    image_embeddings, text_codes: [n, d]; nearness is the dot product. NaN is a miss.
    among: texts an image is compared with, its own included; at least 2.
    seed: of the draw of the others.
    captions: n strings, if some may be equal: the others are drawn from rows of another string.
    avoid: n numbers or strings, such as classes or images: the others are drawn from rows of
      another one. With `captions` as well, they differ in both.
  Raises:
    UserError: no rows, or a row has fewer than `among - 1` others to draw from.
    ValueError: the arguments are not of the same rows.
  """
  image_embeddings, text_codes = np.asarray(image_embeddings), np.asarray(text_codes)
  n = len(image_embeddings)
  kinds = [_kinds(values, n) for values in (captions, avoid) if values is not None]
  if text_codes.shape != image_embeddings.shape or image_embeddings.ndim != 2:
    raise ValueError('image codes and text codes must be of the same rows, both [n, d]')
  if group < 2:
    raise UserError(f'R-precision compares at least 2 captions, not {group}.')
  if not n:
    raise UserError('There are no images: R-precision needs at least one.')
  kinds = kinds or [np.arange(n)]
  rng = np.random.default_rng(seed)
  hits = np.zeros(n, bool)
  for i in range(n):
    order = rng.permutation(n)
    allowed = np.logical_and.reduce([kind[order] != kind[i] for kind in kinds])
    others = order[allowed][:group - 1]
    if len(others) < group - 1:
      raise UserError(
        f'R-precision among {group} captions needs {group - 1} rows with another caption than a '
        f"row's own, and of {n} rows only {len(others)} are; evaluate more rows.")
    # Summed row by row, so that equal texts get equal scores and tie; a matrix product rounds the
    # last rows of a block in another order.
    scores = (text_codes[np.append(i, others)] * image_embeddings[i]).sum(-1)
    hits[i] = (scores[0] > scores[1:]).all()
  return hits


def r_precision_folds(hits: np.ndarray, folds: int = 10) -> Folds:
  """Mean and spread of the shares of hits of `folds` equal runs of rows, in their order.

  Rows that the number of folds leaves over go to the folds in between, so sizes differ by at most
  one and the mean is then not quite `hits.mean()`.

  Raises:
    UserError: fewer rows than folds.
  """
  hits = np.asarray(hits, bool)
  if hits.ndim != 1:
    raise ValueError(f'hits must be one truth value for each row, not of the shape {hits.shape}')
  if not 1 <= folds <= len(hits):
    raise UserError(f'{len(hits):,} rows cannot be divided into {folds} folds; evaluate more rows.')
  shares = [part.mean() for part in np.array_split(hits, folds)]
  return Folds(float(np.mean(shares)), float(np.std(shares)))


def _kinds(values: Sequence, n: int) -> np.ndarray:
  """Numbers that are equal where the values are."""
  if len(values) != n:
    raise ValueError('image codes, text codes, captions and avoid must be of the same rows')
  return np.unique(list(values), return_inverse=True)[1]
