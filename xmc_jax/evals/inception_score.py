"""The Inception Score (Salimans et al., arXiv 1606.03498) from logits."""
from __future__ import annotations

import numpy as np

from xmc_jax.evals.statistics import MeanStd, finite_rows
from xmc_jax.types import UserError


def inception_score(logits: np.ndarray, splits: int = 10, seed: int = 2020) -> MeanStd:
  """exp of the mean of KL(p(class | image), p(class)), where each split has its own p(class).

  It is from 1 to the number of classes. Images are shuffled and split as in torch-fidelity 0.4. The
  number of splits is part of the metric: a split of few images estimates p(class) badly, which
  lowers the score. Of the public implementations, improved-gan and torch-fidelity take 10 splits,
  XMC-GAN's and StudioGAN take 1. The logits differ as well (1008 of the 2015 Inception without
  biases, or 1000 of another network). Figures are comparable only if all of this is the same.

  logits: [n, k], before the softmax.
  splits: from 1 to n.
  seed: for the shuffling.

  Raises UserError for fewer images than splits, or a value that is not finite.
  """
  logits = finite_rows(logits, 'logits')
  n = len(logits)
  if not 1 <= splits <= n:
    raise UserError(f'the Inception Score of {n:,} images cannot be taken in {splits} splits; '
                    f'take 1 to {n:,}, or evaluate more images')
  logits = logits[np.random.RandomState(seed).permutation(n)]
  log_p = logits - _log_sum(logits, axis=1)
  edges = [i * n // splits for i in range(splits + 1)]
  scores = [_score(log_p[a:b]) for a, b in zip(edges, edges[1:])]
  return MeanStd.of(scores)


def _score(log_p: np.ndarray) -> float:
  # In logarithms throughout: a class of probability 0 would otherwise give 0 * inf.
  log_marginal = _log_sum(log_p, axis=0) - np.log(len(log_p))
  return np.exp((np.exp(log_p) * (log_p - log_marginal)).sum(axis=1).mean())


def _log_sum(x: np.ndarray, axis: int) -> np.ndarray:
  """log of the sum of exp, keeping the axis."""
  largest = x.max(axis=axis, keepdims=True)
  return largest + np.log(np.exp(x - largest).sum(axis=axis, keepdims=True))
