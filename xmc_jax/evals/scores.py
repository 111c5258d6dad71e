"""Scores that compare the features of two sets of images."""
from __future__ import annotations

import dataclasses

from xmc_jax.encoders.features import Features
from xmc_jax.evals import frechet, kernels, manifold
from xmc_jax.evals.inception_score import inception_score
from xmc_jax.evals.protocols import Protocol

KID_SUBSET = 1000
INCEPTION_SPLITS = 10


@dataclasses.dataclass(frozen=True)
class Score:
  """A number; `spread` is its standard deviation over subsets, splits or folds, if it has one."""
  metric: str
  value: float
  spread: float | None = None


def kid_subset(fakes: int, reals: int) -> int:
  """Images in a subset of KID: 1,000, or half of the smaller set if that has fewer."""
  fewer = min(fakes, reals)
  return KID_SUBSET if fewer >= KID_SUBSET else max(2, fewer // 2)


def distances(fakes: Features, reals: Features, protocol: Protocol) -> list[Score]:
  """All metrics that compare two distributions, from numpy features of at least two images each.

  If the network is not an Inception, the metric names say so. The Inception Score needs at least
  ten images and is left out otherwise.

  Raises UserError if features are not finite, or there are too few images for precision and recall.
  """
  inception = protocol.distance == 'FID'
  named = (lambda metric: metric) if inception else (lambda metric: f'{metric}-lite0')
  kid = kernels.kid(fakes.pool, reals.pool, subset_size=kid_subset(len(fakes.pool),
                                                                  len(reals.pool)))
  pr = manifold.precision_recall(fakes.pool, reals.pool)
  dc = manifold.density_coverage(fakes.pool, reals.pool)
  found = [Score(protocol.distance, frechet.frechet_of_features(fakes.pool, reals.pool)),
           Score(named('KID'), kid.mean, kid.std),
           Score(named('precision'), pr.precision), Score(named('recall'), pr.recall),
           Score(named('density'), dc.density), Score(named('coverage'), dc.coverage)]
  if len(fakes.logits) >= INCEPTION_SPLITS:
    score = inception_score(fakes.logits, INCEPTION_SPLITS)
    found.append(Score(named('IS'), score.mean, score.std))
  return found
