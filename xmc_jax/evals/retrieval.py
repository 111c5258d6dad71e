"""R-precision (Xu et al., AttnGAN, arXiv 1711.10485): does an image retrieve its own caption?

The share of images that are nearer to their own caption than to a few other captions, in the
embedding space of some network. The network decides the figure. If it was also in the generator's
loss (DAMSM in AttnGAN and DM-GAN, CLIP in GALIP), the generator was trained to please it. DM-GAN's
protocol is 30,000 images, one true caption and 99 captions of other classes, cosine similarity, and
mean and standard deviation over 10 folds:

  hits = r_precision_hits(unit(image_embeddings), unit(text_embeddings), 100, avoid=class_numbers)
  mean, std = r_precision_folds(hits)

DM-GAN draws the other captions with replacement, so one may come twice; here no text comes twice.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmc_jax.evals.statistics import MeanStd
from xmc_jax.types import Array, UserError

CANDIDATES = 16


def r_precision(
    image_embeddings: Array, text_embeddings: Array, candidates: int = CANDIDATES, seed: int = 0, *,
    captions: Sequence[str] | None = None, avoid: Sequence | None = None) -> float:
  """The share of hits, in [0, 1]; arguments and errors as of `r_precision_hits`."""
  hits = r_precision_hits(image_embeddings, text_embeddings, candidates, seed, captions=captions,
                          avoid=avoid)
  return float(hits.mean())


def r_precision_hits(
    image_embeddings: Array, text_embeddings: Array, candidates: int = CANDIDATES, seed: int = 0, *,
    captions: Sequence[str] | None = None, avoid: Sequence | None = None) -> np.ndarray:
  """Whether each image is strictly nearer to its own text than to `candidates - 1` other texts.

  image_embeddings, text_embeddings: [n, d], compared by dot product. NaN counts as a miss.
  candidates: texts that each image is compared with, including its own; at least 2.
  seed: for the choice of the other texts.
  captions: n strings, if some may be equal; the other texts then differ from the image's own and
    from one another.
  avoid: n numbers or strings, such as classes or image ids; the other texts then have a different
    one. With `captions` as well, both differ.

  Returns bool [n]; a tie is a miss. Raises as `check`, and ValueError if the embeddings do not have
  one shape and the length of the others.
  """
  image_embeddings, text_embeddings = np.asarray(image_embeddings), np.asarray(text_embeddings)
  n = len(image_embeddings)
  if text_embeddings.shape != image_embeddings.shape or image_embeddings.ndim != 2:
    raise ValueError('image and text embeddings must have the same shape [n, d]')
  check(n, candidates, captions=captions, avoid=avoid)
  texts, rows = _groups(captions, n), _groups(avoid, n)
  rng = np.random.default_rng(seed)
  hits = np.zeros(n, bool)
  for i in range(n):
    order = rng.permutation(n)
    others = order[(texts[order] != texts[i]) & (rows[order] != rows[i])]
    if captions is not None:
      others = _first_of_each(texts, others, candidates - 1)
    others = others[:candidates - 1]
    # Summed one by one, so that equal texts get equal scores and tie: a matrix product sums the
    # last rows of a block in another order.
    scores = (text_embeddings[np.append(i, others)] * image_embeddings[i]).sum(-1)
    hits[i] = (scores[0] > scores[1:]).all()
  return hits


def check(n: int, candidates: int = CANDIDATES, *, captions: Sequence[str] | None = None,
          avoid: Sequence | None = None) -> None:
  """UserError unless each of n images has `candidates - 1` other texts to be compared with.

  The arguments are those of `r_precision_hits`. ValueError if they do not have length n.
  """
  texts, rows = _groups(captions, n), _groups(avoid, n)
  if candidates < 2:
    raise UserError(f'R-precision compares at least 2 captions, not {candidates}')
  if not n:
    raise UserError('R-precision needs at least one image')
  pairs = np.unique(np.stack([texts, rows], 1), axis=0)
  groups_of = np.bincount(pairs[:, 0])              # in how many of `avoid` a text occurs
  alone = pairs[groups_of[pairs[:, 0]] == 1]        # texts of one group, which the others lack
  lost = np.bincount(alone[:, 1], minlength=rows.max() + 1)[rows] + (groups_of[texts] > 1)
  fewest = len(groups_of) - int(lost.max())
  if fewest < candidates - 1:
    raise UserError(
      f'R-precision with {candidates} candidates needs {candidates - 1} captions other than an '
      f"image's own, all different, and only {fewest} of {n} qualify; evaluate more images, with "
      '--fakes or config.evals.fakes')


def _first_of_each(texts: np.ndarray, order: np.ndarray, wanted: int) -> np.ndarray:
  """The rows of `order` whose text has not come before, in order; at least `wanted` of them."""
  size = 2 * wanted
  while True:
    part = order[:size]
    first = np.sort(np.unique(texts[part], return_index=True)[1])
    if len(first) >= wanted:
      return part[first]
    size *= 2


def r_precision_folds(hits: np.ndarray, folds: int = 10) -> MeanStd:
  """Mean and standard deviation of the shares of hits of `folds` consecutive parts.

  If the number of examples is not a multiple of `folds`, sizes differ by at most one, and the mean
  is not exactly `hits.mean()`.

  Raises UserError for fewer examples than folds.
  """
  hits = np.asarray(hits, bool)
  if hits.ndim != 1:
    raise ValueError(f'hits must have shape [n], not {hits.shape}')
  if not 1 <= folds <= len(hits):
    raise UserError(f'{len(hits):,} images cannot be divided into {folds} folds; evaluate more '
                    'images')
  return MeanStd.of([part.mean() for part in np.array_split(hits, folds)])


def _groups(values: Sequence | None, n: int) -> np.ndarray:
  """Integers [n] that are equal where the values are equal; all different without values."""
  if values is None:
    return np.arange(n)
  if len(values) != n:
    raise ValueError('embeddings, captions and avoid must have the same length')
  return np.unique(list(values), return_inverse=True)[1]
