"""The Inception Score (Salimans et al., arXiv 1606.03498) from logits."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xmc_jax.evals.statistics import finite_rows
from xmc_jax.types import UserError


class InceptionScore(NamedTuple):
  """Mean and standard deviation (ddof 0) over the splits; 1 is the least, the classes the most."""

  mean: float
  std: float


def inception_score(logits: np.ndarray, splits: int = 10, seed: int = 2020) -> InceptionScore:
  """exp of the mean of KL(p(class | image), p(class)), with p(class) of each split its own.

  Rows are shuffled and split as torch-fidelity 0.4 does it. The splits are part of the measure: a
  split of few images knows p(class) badly, which lowers the score. Of the codes of this
  literature improved-gan and torch-fidelity take 10 splits, XMC-GAN's and StudioGAN take 1, and
  which logits are taken differs as well (1008 of the 2015 Inception without its biases, or 1000 of
  another): figures compare only where all of it is the same.

  Args:
    logits: [n, k], before the softmax.
    splits: from 1 to n.
    seed: of the shuffle.
  Raises:
    UserError: fewer rows than splits, or a value that is not finite.
  """
  logits = finite_rows(logits, 'logits')
  n = len(logits)
  if not 1 <= splits <= n:
    raise UserError(f'The Inception Score of {n:,} images cannot be taken in {splits} splits; '
                    f'take 1 to {n:,}, or evaluate more images.')
  logits = logits[np.random.RandomState(seed).permutation(n)]
  log_p = logits - _log_sum(logits, axis=1)
  edges = [i * n // splits for i in range(splits + 1)]
  scores = [_score(log_p[a:b]) for a, b in zip(edges, edges[1:])]
  return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(log_p: np.ndarray) -> float:
  # In logarithms throughout: a class that no image has is no 0 * inf.
  log_marginal = _log_sum(log_p, axis=0) - np.log(len(log_p))
  return np.exp((np.exp(log_p) * (log_p - log_marginal)).sum(axis=1).mean())


def _log_sum(x: np.ndarray, axis: int) -> np.ndarray:
  """log of the sum of exp, the axis kept."""
  largest = x.max(axis=axis, keepdims=True)
  return largest + np.log(np.exp(x - largest).sum(axis=axis, keepdims=True))
