"""The second view of supervised contrastive training: a partner with a matching label per anchor.

The partner is sampled from the whole split, with probability proportional to the weight that the
pair has under the chosen rule. `xmc_jax.types.LABEL_RULES` defines the weights; the rule `self`
makes every image its own partner, with another caption. If images have one class each, all rules
but `self` require equal classes. Otherwise an image is its own partner only if no other image has a
positive weight with it.

Supervised contrastive text-to-image training (arXiv 2412.03957) feeds images with the same label
through two branches. It does not say when images with several classes have the same label, nor
how they are sampled: the rules are ours.

The weights of all pairs are never computed. A member of one of the anchor's groups is proposed,
each member of each group with equal probability, so an image that shares k groups is proposed k
times as often as one that shares one; it is accepted with a probability proportional to weight / k.
Groups are the classes, except that under `exact` an image's only group is its set of classes and
under `dominant` its largest class, and every proposal is accepted.
"""
from __future__ import annotations

import dataclasses

import numpy as np

from xmc_jax.data.plan import Plan, choose, generator
from xmc_jax.data.source import Source
from xmc_jax.types import LABEL_RULES, UserError

WHICH, HOW = 3, 4   # random streams, distinct from those of `plan` and of the scenes
TRIES = 32          # proposals per anchor before its weights are computed after all
BLOCK = 4096        # dense labels held in memory at once


@dataclasses.dataclass(frozen=True)
class Labels:
  """The m nonzero entries of the labels of a split, ordered by image and class.

  Attributes:
    images: n, the number of images.
    image: int64 [m], in [0, n).
    kind: int64 [m], the class, at least 0.
    amount: float32 [m], above 0; 1 if a label is one class.
  """
  images: int
  image: np.ndarray
  kind: np.ndarray
  amount: np.ndarray


def read_labels(source: Source) -> Labels:
  """Reads the label of every image; of prepared data sets that takes about 13 µs each."""
  parts = []
  for start in range(0, len(source), BLOCK):
    block = np.stack([source.label(i) for i in range(start, min(start + BLOCK, len(source)))])
    if block.ndim == 1:
      if (block < 0).any():
        raise UserError(f'the label of image {start + int(np.argmax(block < 0)):,} is below 0; '
                        'prepare the data with a class for each image, or set '
                        '--config.data.partners=self')
      parts.append((start + np.arange(len(block)), block, np.ones(len(block), np.float32)))
    else:
      row, kind = np.nonzero(block > 0)
      parts.append((start + row, kind, block[row, kind]))
  image, kind, amount = (np.concatenate(leaves) for leaves in zip(*parts, strict=True))
  return Labels(len(source), image, kind.astype(np.int64), amount)


def find(source: Source, rule: str) -> Partners | None:
  """Returns the partners of a source; None for the rule ''. UserError if the rule is unknown."""
  return Partners(read_labels(source), rule, source.flippable) if rule else None


class Partners:
  """Samples partners for the images of one split."""

  def __init__(self, labels: Labels, rule: str, flippable: bool | np.ndarray = False):
    """`flippable` is as of `Source`. UserError if the rule is unknown."""
    if rule not in LABEL_RULES:
      raise UserError(f'--config.data.partners={rule}: choose one of {", ".join(LABEL_RULES)}, or '
                      'leave it empty for none')
    self.rule, self._flippable = rule, flippable
    self._sizes = np.bincount(labels.image, minlength=labels.images)
    of, group = _groups(labels, rule)
    # (image, group) pairs are ordered by image; `_first` is the index of each image's first pair.
    self._first = np.searchsorted(of, np.arange(labels.images + 1))
    self._packed = _pack(labels) if (np.diff(self._first) > 1).any() else None
    # The members of a pair's group are contiguous from `_start`; the image itself is at `_rank`.
    order, counts = np.argsort(group, kind='stable'), np.bincount(group)
    self._members = of[order]
    self._start = (np.cumsum(counts) - counts)[group]
    self._rank = np.empty(len(of), np.int64)
    self._rank[order] = np.arange(len(of)) - self._start[order]
    # A pair can propose each other member. `_before` counts the proposals of all earlier pairs.
    self._before = np.concatenate([[0], np.cumsum(counts[group] - 1)])
    self._proposals = np.diff(self._before[self._first])

  def plan(self, anchors: Plan, seed: int, step: int) -> Plan:
    """Returns the plan of the second view: partners with their own captions, flips and crops.

    The choice for one anchor depends on (seed, step), its position and its index, not on the other
    anchors.
    """
    index = self.sample(anchors.index, seed, step)
    return choose(index, self._flippable, generator(seed, HOW, step))

  def sample(self, index: np.ndarray, seed: int, step: int) -> np.ndarray:
    """Returns the partners of the images `index`: int64, of the same shape."""
    random = generator(seed, WHICH, step)
    anchors, partners = index.reshape(-1), index.flatten()
    left = np.flatnonzero(self._proposals[anchors])
    for _ in range(TRIES):
      if not len(left):
        break
      # Numbers for all anchors, so the choice for one does not depend on which others are left.
      which, sure = random.random((2, len(anchors)))[:, left]
      proposed = self._propose(anchors[left], which)
      good = sure < self._acceptance(anchors[left], proposed)
      partners[left[good]] = proposed[good]
      left = left[~good]
    if len(left):
      which = random.random(len(anchors))
      for row in left.tolist():
        partners[row] = self._choose_from_all(int(anchors[row]), which[row])
    return partners.reshape(index.shape)

  def mean_weight(self) -> float:
    """Returns the sum of an image's weights with all others, averaged over images.

    If weights are 1, that is the mean number of positives. Under `overlap` and `jaccard` it is an
    unbiased estimate from one proposal per image.
    """
    anchors = np.flatnonzero(self._proposals)
    proposed = self._propose(anchors, generator(0, WHICH).random(len(anchors)))
    summed = self._proposals[anchors] * self._weight_of_share(anchors, proposed)
    return float(summed.sum()) / len(self._proposals)

  def alone(self) -> float:
    """Returns the fraction of images that are their own partner."""
    return float((self._proposals == 0).mean())

  def summary(self) -> str:
    """Formats the statistics of the partners as one line."""
    weighed = 'their weights sum to' if self.rule == 'jaccard' else 'an image has'
    return (f'partners by the rule {self.rule}: {weighed} {self.mean_weight():,.1f} others on '
            f'average; {self.alone():.1%} of the images are their own')

  def _propose(self, anchors: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Proposes an image for each anchor, chosen by `number` in [0, 1); each must have one."""
    pair = self._first[anchors]
    place = self._before[pair] + (number * self._proposals[anchors]).astype(np.int64)
    if self._packed is not None:
      pair = np.searchsorted(self._before, place, 'right') - 1
    place -= self._before[pair]
    return self._members[self._start[pair] + place + (place >= self._rank[pair])]

  def _acceptance(self, anchors: np.ndarray, proposed: np.ndarray) -> np.ndarray:
    """Probabilities of acceptance: proportional to weight / k for each anchor."""
    share = self._weight_of_share(anchors, proposed)
    return share * self._sizes[anchors] if self.rule == 'jaccard' else share

  def _weight_of_share(self, anchors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns weight / k of pairs of images that share k > 0 groups."""
    if self._packed is None:
      return np.ones(len(others))
    shared = np.bitwise_count(self._packed[anchors] & self._packed[others]).sum(-1, np.int64)
    if self.rule == 'overlap':
      return 1 / shared
    return 1 / (self._sizes[anchors] + self._sizes[others] - shared)

  def _choose_from_all(self, anchor: int, number: float) -> int:
    """Samples the partner of one anchor from the weights of all images that share a group."""
    pairs = range(self._first[anchor], self._first[anchor + 1])
    ends = [self._start[p] + self._before[p + 1] - self._before[p] + 1 for p in pairs]
    members = [self._members[self._start[p]:end] for p, end in zip(pairs, ends, strict=True)]
    found, shared = np.unique(np.concatenate(members), return_counts=True)
    shared[found == anchor] = 0
    summed = np.cumsum(shared * self._weight_of_share(np.full(len(found), anchor), found))
    return int(found[np.searchsorted(summed, number * summed[-1], 'right')])


def _groups(labels: Labels, rule: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns (image, group) pairs as two arrays, ordered by image."""
  if rule == 'self':
    return np.arange(labels.images), np.arange(labels.images)
  single = (np.diff(labels.image) > 0).all()
  if single or rule in ('overlap', 'jaccard'):
    return labels.image, labels.kind
  if rule == 'dominant':
    order = np.lexsort((labels.kind, -labels.amount, labels.image))
    image, largest = np.unique(labels.image[order], return_index=True)
    return image, labels.kind[order][largest]
  image = np.unique(labels.image)
  return image, np.unique(_pack(labels)[image], axis=0, return_inverse=True)[1].reshape(-1)


def _pack(labels: Labels) -> np.ndarray:
  """Returns the sets of classes as bits, uint64 [n, ceil(classes / 64)]."""
  words = int(labels.kind.max()) // 64 + 1
  packed = np.zeros((labels.images, words), np.uint64)
  bit = np.uint64(1) << (labels.kind % 64).astype(np.uint64)
  np.bitwise_or.at(packed, (labels.image, labels.kind // 64), bit)
  return packed
