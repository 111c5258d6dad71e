"""The second view of supervised contrastive training: for every anchor a partner of like labels.

The partner is drawn from the whole split, with a probability proportional to the pair's weight:

  exact     both images have the same set of classes: weight 1
  overlap   they share at least one class: weight 1
  dominant  the class with the largest amount is the same, the first of equal ones: weight 1
  jaccard   classes that they share over classes that either has
  self      none: every image is its own partner, with another caption

Where images have one class each, all rules but self say that the classes are equal. An image is
its own partner where no other image has a weight with it, and nowhere else.

Supervised contrastive text-to-image training (arXiv 2412.03957) puts images of the same label
into two branches; which images of several classes have the same label, and how they are drawn, we
have from no published text: the rules are ours.

The weights of all pairs are never written down. An image is proposed as a member of one of the
anchor's groups, each member of each group equally often, so that an image that shares k groups is
proposed k times as often as one that shares one; it is accepted with a probability proportional to
weight / k. Groups are the classes; but under `exact` an image's only group is its set of classes,
under `dominant` its largest class, and every proposal is accepted.
"""
from __future__ import annotations

import dataclasses

import numpy as np

from xmc_jax.config import LABEL_RULES
from xmc_jax.data.plan import Plan, choose, generator
from xmc_jax.data.source import Source
from xmc_jax.types import UserError

WHICH, HOW = 3, 4   # streams of randomness, beside those of `plan` and of the scenes
TRIES = 32          # proposals for a row, after which its weights are written down after all
BLOCK = 4096        # labels that are held before their zeros are left out


@dataclasses.dataclass(frozen=True)
class Labels:
  """The labels of a split without their zeros, ordered by image and class.

  images  their number, n
  image   int64 [m], in [0, n)
  kind      int64 [m], the class, 0 or more
  amount    float32 [m], more than 0; 1 where a label is one class
  """
  images: int
  image: np.ndarray
  kind: np.ndarray
  amount: np.ndarray


def read_labels(source: Source) -> Labels:
  """Reads the label of every image, which takes about 13 µs for each of prepared records."""
  parts = []
  for start in range(0, len(source), BLOCK):
    block = np.stack([source.label(i) for i in range(start, min(start + BLOCK, len(source)))])
    if block.ndim == 1:
      parts.append((start + np.arange(len(block)), block, np.ones(len(block), np.float32)))
    else:
      row, kind = np.nonzero(block > 0)
      parts.append((start + row, kind, block[row, kind]))
  image, kind, amount = (np.concatenate(leaves) for leaves in zip(*parts, strict=True))
  return Labels(len(source), image, kind.astype(np.int64), amount)


def find(source: Source, rule: str) -> Partners | None:
  """Reads the labels of a source; None for the rule ''. UserError if the rule is unknown."""
  return Partners(read_labels(source), rule, source.flippable) if rule else None


class Partners:
  """Draws the partners of the images of one split."""

  def __init__(self, labels: Labels, rule: str, flippable: bool | np.ndarray = False):
    """`flippable` is that of the source. UserError if the rule is unknown."""
    if rule not in LABEL_RULES:
      raise UserError(f'--config.data.partners={rule}: choose one of {", ".join(LABEL_RULES)}, or '
                      'leave it empty for none')
    self.rule, self._flippable = rule, flippable
    self._sizes = np.bincount(labels.image, minlength=labels.images)
    of, group = _groups(labels, rule)
    # Pairs of an image and one of its groups, ordered by image: `_first` is an image's first.
    self._first = np.searchsorted(of, np.arange(labels.images + 1))
    self._packed = _pack(labels) if (np.diff(self._first) > 1).any() else None
    # A group's members lie side by side from `_start` of its pairs; a pair's own is number `_rank`.
    order, counts = np.argsort(group, kind='stable'), np.bincount(group)
    self._members = of[order]
    self._start = (np.cumsum(counts) - counts)[group]
    self._rank = np.empty(len(of), np.int64)
    self._rank[order] = np.arange(len(of)) - self._start[order]
    # A pair proposes each other member once. `_before` counts the proposals of all pairs before.
    self._before = np.concatenate([[0], np.cumsum(counts[group] - 1)])
    self._proposals = np.diff(self._before[self._first])

  def plan(self, anchors: Plan, seed: int, step: int) -> Plan:
    """The plan of the second view: partners with captions, flips and crops of their own.

    What is drawn for a row depends on (seed, step), its place and its anchor, not on other anchors.
    """
    index = self.draw(anchors.index, seed, step)
    return choose(index, self._flippable, generator(seed, HOW, step))

  def draw(self, index: np.ndarray, seed: int, step: int) -> np.ndarray:
    """The partners of the images `index`: int64, of the same shape."""
    random = generator(seed, WHICH, step)
    anchors, partners = index.reshape(-1), index.flatten()
    left = np.flatnonzero(self._proposals[anchors])
    for _ in range(TRIES):
      if not len(left):
        break
      which, sure = random.random((2, len(anchors)))[:, left]   # for all: no row moves another's
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
    """The mean of an image's summed weights to all others: of its positives, if weights are 1.

    Under `overlap` and `jaccard` it is an estimate without bias, from one proposal an image.
    """
    anchors = np.flatnonzero(self._proposals)
    proposed = self._propose(anchors, generator(0, WHICH).random(len(anchors)))
    summed = self._proposals[anchors] * self._weight_of_share(anchors, proposed)
    return float(summed.sum()) / len(self._proposals)

  def alone(self) -> float:
    """The share of images that are their own partner."""
    return float((self._proposals == 0).mean())

  def summary(self) -> str:
    """One line for people."""
    weighed = 'their weights sum to' if self.rule == 'jaccard' else 'an image has'
    return (f'partners by the rule {self.rule}: {weighed} {self.mean_weight():,.1f} others on '
            f'average; {self.alone():.1%} of the images are their own')

  def _propose(self, anchors: np.ndarray, number: np.ndarray) -> np.ndarray:
    """A proposal for each anchor, none of which is alone; `number` in [0, 1) says which."""
    pair = self._first[anchors]
    place = self._before[pair] + (number * self._proposals[anchors]).astype(np.int64)
    if self._packed is not None:
      pair = np.searchsorted(self._before, place, 'right') - 1
    place -= self._before[pair]
    return self._members[self._start[pair] + place + (place >= self._rank[pair])]

  def _acceptance(self, anchors: np.ndarray, proposed: np.ndarray) -> np.ndarray:
    """Probabilities that are, for one anchor, proportional to weight / k."""
    share = self._weight_of_share(anchors, proposed)
    return share * self._sizes[anchors] if self.rule == 'jaccard' else share

  def _weight_of_share(self, anchors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """weight / k of pairs of images that share k > 0 groups."""
    if self._packed is None:
      return np.ones(len(others))
    shared = np.bitwise_count(self._packed[anchors] & self._packed[others]).sum(-1, np.int64)
    if self.rule == 'overlap':
      return 1 / shared
    return 1 / (self._sizes[anchors] + self._sizes[others] - shared)

  def _choose_from_all(self, anchor: int, number: float) -> int:
    """The partner of an anchor that is not alone, from the weights of all who share a group."""
    pairs = range(self._first[anchor], self._first[anchor + 1])
    ends = [self._start[p] + self._before[p + 1] - self._before[p] + 1 for p in pairs]
    members = [self._members[self._start[p]:end] for p, end in zip(pairs, ends, strict=True)]
    found, shared = np.unique(np.concatenate(members), return_counts=True)
    shared[found == anchor] = 0
    summed = np.cumsum(shared * self._weight_of_share(np.full(len(found), anchor), found))
    return int(found[np.searchsorted(summed, number * summed[-1], 'right')])


def _groups(labels: Labels, rule: str) -> tuple[np.ndarray, np.ndarray]:
  """Pairs of an image and the number of a group that it is in, ordered by image."""
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
  """The sets of classes as bits, uint64 [n, classes / 64]."""
  words = int(labels.kind.max()) // 64 + 1
  packed = np.zeros((labels.images, words), np.uint64)
  bit = np.uint64(1) << (labels.kind % 64).astype(np.uint64)
  np.bitwise_or.at(packed, (labels.image, labels.kind // 64), bit)
  return packed
