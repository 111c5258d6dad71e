"""Detects generated images that copy training images, by the distance of their features.

A distance means nothing alone: two real photographs of one beach are near each other too. The
threshold for a near duplicate is therefore taken from real images held out of training. It is the
distance to the nearest training image that only one in a hundred of them stays below. A generator
that copies nothing also gets about one in a hundred. The features decide what counts as near; a
mirrored or cropped copy is near only to a network that is invariant to it. Look at the pairs.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xmc_jax.evals.kernels import unit_rows
from xmc_jax.types import UserError

BLOCK = 2048  # images of each side that are compared at a time
ROUNDING = 1e-12  # a distance below it is 0: equal images differ by what float64 rounds
QUANTILE = 0.01     # of the held-out images' distances, below which a generated image is too near


class Duplicates(NamedTuple):
  """The result of `near_duplicates`; distances are 1 - cosine, in [0, 2].

  share: of generated images no farther from a training image than `threshold`.
  threshold: the distance that a share `quantile` of the held-out images stays below.
  ratio: median distance of generated images divided by that of held-out images; below 1, generated
    images are nearer to the training images than new real ones are. NaN if both are 0.
  distance: float64 [n], from each generated image to its nearest training image.
  nearest: int64 [n], the index of that training image.
  worst: int64 [w], the generated images with the smallest distances, nearest first.
  """
  share: float
  threshold: float
  ratio: float
  distance: np.ndarray
  nearest: np.ndarray
  worst: np.ndarray


def check_heldout(n: int, quantile: float = QUANTILE) -> None:
  """UserError if n held-out images are too few for the quantile of `near_duplicates`."""
  least = int(np.ceil(1 / quantile))
  if n < least:
    raise UserError(f'a quantile of {quantile:g} needs at least {least:,} held-out real images, '
                    f'and there are {n:,}; take more of them or a larger quantile')


def near_duplicates(generated: np.ndarray, training: np.ndarray, heldout: np.ndarray,
                    quantile: float = QUANTILE, worst: int = 16) -> Duplicates:
  """Compares generated [n, d] and held-out real [m, d] features with training features [t, d].

  Real collections contain duplicates. Held-out images that are copies of training images lower the
  threshold, so remove them first.

  quantile: in (0, 1), of the held-out distances.
  worst: how many of the nearest pairs to return.

  Raises UserError for no images, fewer than 1 / quantile held-out images, unequal d, NaN, or a
  vector of zeros.
  """
  if not 0 < quantile < 1:
    raise UserError(f'the quantile of near duplicates must be between 0 and 1, not {quantile}')
  sides = {'generated': generated, 'training': training, 'held-out': heldout}
  shapes = {name: np.shape(rows) for name, rows in sides.items()}
  if any(len(shape) != 2 for shape in shapes.values()):
    raise ValueError(f'features must have shape [n, d] each, not {shapes}')
  empty = [name for name, shape in shapes.items() if not shape[0]]
  if empty:
    raise UserError(f'there are no {empty[0]} features to compare; evaluate at least one image')
  if len({shape[1] for shape in shapes.values()}) > 1:
    raise UserError(f'features of {", ".join(f"{s[1]:,} ({name})" for name, s in shapes.items())} '
                    'numbers cannot be compared; take all from the same network')
  check_heldout(len(heldout), quantile)
  distance, nearest = nearest_rows(generated, training)
  usual, _ = nearest_rows(heldout, training)
  threshold = float(np.quantile(usual, quantile))
  with np.errstate(divide='ignore', invalid='ignore'):
    ratio = float(np.median(distance) / np.median(usual))
  return Duplicates(float((distance <= threshold).mean()), threshold, ratio, distance, nearest,
                    np.argsort(distance, kind='stable')[:worst])


def nearest_rows(rows: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """For each row, the smallest 1 - cosine to any of `others`, and the first index that has it."""
  largest, index = np.full(len(rows), -np.inf), np.zeros(len(rows), np.int64)
  for j in range(0, len(others), BLOCK):
    columns = unit_rows(others[j:j + BLOCK])
    for i in range(0, len(rows), BLOCK):
      part = slice(i, i + BLOCK)
      cosines = unit_rows(rows[part]) @ columns.T
      best = cosines.argmax(axis=1)
      values = cosines[np.arange(len(best)), best]
      better = values > largest[part]
      index[part][better] = best[better] + j
      largest[part][better] = values[better]
  distance = 1 - largest
  return np.where(distance < ROUNDING, 0, distance), index
