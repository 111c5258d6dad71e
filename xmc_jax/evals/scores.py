"""Scores that compare the features of two sets of images."""
from __future__ import annotations

import dataclasses

from xmc_jax.encoders.features import Features
from xmc_jax.evals import frechet, kernels, manifold
from xmc_jax.evals.inception_score import inception_score
from xmc_jax.evals.protocols import Protocol
from xmc_jax.evals.statistics import Moments
from xmc_jax.types import UserError

LEAST = 6           # images on a side: density looks at five neighbors of each
KID_SUBSET = 1000
INCEPTION_SPLITS = 10


@dataclasses.dataclass(frozen=True)
class Score:
  """A number; `spread` is its standard deviation over subsets, splits or folds, if it has one.

  Of the CLIP score it is the standard error over images.
  """
  metric: str
  value: float
  spread: float | None = None


def kid_subset(fakes: int, reals: int | None) -> int | None:
  """Images in a subset of KID: 1,000, or half of the smaller set if that has fewer."""
  if reals is None:      # of which only moments are known, so there is no KID
    return None
  fewer = min(fakes, reals)
  return KID_SUBSET if fewer >= KID_SUBSET else max(2, fewer // 2)


def refuse_few(fakes: int, reals: int | None, how: str) -> None:
  """Raises a UserError if there are too few images; `how` says how to get more generated ones."""
  if fakes < LEAST or reals is not None and reals < LEAST:
    against = '' if reals is None else f' and {reals:,} real'
    raise UserError(f'too few images: the scores need at least {LEAST} on each side, and there are '
                    f'{fakes:,} generated{against} ones; '
                    f'{how if reals is None or reals >= LEAST else "add real images"}')


def distances(fakes: Features, reals: Features, protocol: Protocol) -> list[Score]:
  """All metrics that compare two distributions, from features of at least `LEAST` images each.

  If the network is not an Inception, the metric names say so. KID has no spread if its subsets are
  all images of a side.

  Raises UserError if features are not finite.
  """
  fewer = min(len(fakes.pool), len(reals.pool))
  subset = kid_subset(len(fakes.pool), len(reals.pool))
  kid = kernels.kid(fakes.pool, reals.pool, subset_size=subset)
  pr = manifold.precision_recall(fakes.pool, reals.pool)
  dc = manifold.density_coverage(fakes.pool, reals.pool)
  named = lambda metric: _named(metric, protocol)
  return [Score(protocol.distance, frechet.frechet_of_features(fakes.pool, reals.pool)),
          Score(named('KID'), kid.mean, kid.std if subset < fewer else None),
          Score(named('precision'), pr.precision), Score(named('recall'), pr.recall),
          Score(named('density'), dc.density), Score(named('coverage'), dc.coverage),
          *_inception_score(fakes, protocol)]


def names(protocol: Protocol, fakes: int) -> tuple[str, ...]:
  """The metrics of `distances` for this many generated images."""
  found = ['KID', 'precision', 'recall', 'density', 'coverage']
  found += ['IS'] if fakes >= INCEPTION_SPLITS else []
  return (protocol.distance, *(_named(metric, protocol) for metric in found))


def distance_to_moments(fakes: Features, reals: Moments, protocol: Protocol) -> list[Score]:
  """What the mean and covariance of the real images are enough for; UserError as of `distances`."""
  distance = frechet.frechet_distance(*Moments.of(fakes.pool), *reals)
  return [Score(protocol.distance, distance), *_inception_score(fakes, protocol)]


def _inception_score(fakes: Features, protocol: Protocol) -> list[Score]:
  """The Inception Score, unless there are too few images for its splits."""
  if len(fakes.logits) < INCEPTION_SPLITS:
    return []
  score = inception_score(fakes.logits, INCEPTION_SPLITS)
  return [Score(_named('IS', protocol), score.mean, score.std)]


def _named(metric: str, protocol: Protocol) -> str:
  return metric if protocol.distance == 'FID' else f'{metric}-lite0'
