"""From what a protocol's network says of two sets of images to numbers."""
from __future__ import annotations

import dataclasses

from xmc_jax.encoders.features import Features
from xmc_jax.evals import frechet, kernels, manifold
from xmc_jax.evals.inception_score import inception_score
from xmc_jax.evals.protocols import Protocol
from xmc_jax.evals.statistics import FeatureStats

SUBSET = 1000   # rows of a subset of KID
SPLITS = 10     # of the inception score


@dataclasses.dataclass(frozen=True)
class Score:
  """A number; `spread` is the standard deviation over subsets, splits or folds where there are."""
  metric: str
  value: float
  spread: float | None = None


def kid_subset(fakes: int, reals: int) -> int:
  """Rows of a subset of KID: 1,000, or half the smaller set where that has fewer."""
  fewer = min(fakes, reals)
  return SUBSET if fewer >= SUBSET else max(2, fewer // 2)


def distances(fakes: Features, reals: Features, protocol: Protocol) -> list[Score]:
  """All that compares two distributions: arrays of numpy, at least two rows each.

  Where the network is not an Inception, all names say which it is. UserError where features are not
  finite, or there are too few for the neighbours that precision and recall look at.
  """
  inception = protocol.distance == 'FID'
  named = (lambda metric: metric) if inception else (lambda metric: f'{metric}-lite0')
  kid = kernels.kid(fakes.pool, reals.pool, subset_size=kid_subset(len(fakes.pool),
                                                                  len(reals.pool)))
  spread = manifold.precision_recall(fakes.pool, reals.pool)
  cover = manifold.density_coverage(fakes.pool, reals.pool)
  found = [Score(protocol.distance, frechet.frechet_of_stats(FeatureStats.of(fakes.pool),
                                                             FeatureStats.of(reals.pool))),
           Score(named('KID'), kid.mean, kid.std),
           Score(named('precision'), spread.precision), Score(named('recall'), spread.recall),
           Score(named('density'), cover.density), Score(named('coverage'), cover.coverage)]
  if len(fakes.logits) >= SPLITS:
    score = inception_score(fakes.logits, SPLITS)
    found.append(Score(named('IS'), score.mean, score.std))
  return found
