"""Object accuracy: whether images of `emoji_scenes` show what their captions say, by a detector.

Semantic object accuracy (Hinz et al., arXiv 1910.13321) asks a detector of COCO's 80 classes for
the one class that a word of the caption suggests. Here the ground truth of a caption is known, so
everything in it is checked: every kind, how many there are, their sizes, the relation of two kinds
(as in VISOR, Gokhale et al., arXiv 2212.10015) and the place of a single object. Backgrounds are
not checked.

The detector (`xmc_jax/evals/networks/detector.py`) was trained on real training images only; what
real images reach is in docs/evaluation.md. It must assign one of 114 kinds to whatever it finds, so
a blob is often called something, and one of the right color is sometimes called right: ellipses in
the objects' mean colors count as 0.15 of the objects, at a precision of 0.21. So read `objects`
together with `precision`.
"""
from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from xmc_jax.data.embedded.emoji_scenes import Truth
from xmc_jax.data.embedded.scene_layout import SIDES, SIZES, Group
from xmc_jax.data.embedded.scene_words import place
from xmc_jax.evals.alignment import resized
from xmc_jax.evals.batches import batch_for, in_batches
from xmc_jax.evals.networks import detector
from xmc_jax.types import Array, UserError

# Minimum score of an object that counts as found, as in SOA. On 2,000 real train images that the
# detector never saw, precision is 0.999 and recall 0.994; from 0.2 to 0.6 both are above 0.99.
THRESHOLD = 0.5
CUTS = [(low[-1] + high[0]) / 2 for low, high in itertools.pairwise(SIDES)]  # between two sizes
BATCH = 128
KEYS = ('objects', 'kinds', 'images', 'precision', 'counts', 'sizes', 'relations', 'places')
Found = dict[int, np.ndarray]  # {kind: boxes [k, 4], highest score first}


def object_accuracy(
    images: Array, truths: Sequence[Truth], reals: Array | None = None, *,
    network: str = 'emoji_scenes', seed: int = 0) -> dict[str, float | None]:
  """Shares of what the captions say that is found in their images.

  Args:
    images: [n, h, w, 3] in [0, 1], of any size; image i was generated from caption i.
    truths: what the captions say, `EmojiScenes.truth(index, caption)`.
    reals: the real images of the captions, [n, h, w, 3] in [0, 1], as an upper bound.
    network: name or path of the detector, see `xmc_jax.evals.networks.detector.find`.
    seed: for the assignment of other captions.
  Returns:
    Shares in [0, 1]; None where no caption says such a thing. A statement about an object that was
    not found counts as wrong.
      objects    of the kinds that the captions name, those found (SOA-I counts so, by mentions)
      kinds      the same for each kind, then the mean over kinds (as SOA-C)
      images     of the images, those in which every named kind is found
      precision  of the kinds found, those that the captions name
      counts     of the named kinds, those found in the stated number
      sizes      of the stated sizes, those that all objects of the kind have
      relations  of the stated relations, those that hold between all objects of both kinds
      places     of the stated places, those that are right
    The same keys with the suffix `_chance` are for these images with captions of other images, and,
    if `reals` are given, those with `_real` for the real images.
  Raises:
    UserError: there is no such detector, or there are fewer than two images.
  """
  if not len(images) == len(truths) == len(truths if reals is None else reals):
    raise ValueError('images, truths and reals must have the same length')
  if len(images) < 2:
    raise UserError('object accuracy needs at least 2 images, to compare with other captions')
  found = find_objects(images, network)
  scores = {'': score(found, truths), '_chance': score(found, others(truths, seed))}
  if reals is not None:
    scores['_real'] = score(find_objects(reals, network), truths)
  return {key + ending: part[key] for ending, part in scores.items() for key in KEYS}


def others(truths: Sequence[Truth], seed: int) -> list[Truth]:
  """The truths in a random order in which none keeps its position."""
  order = np.random.default_rng(seed).permutation(len(truths))
  changed = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
  return [truths[changed[i]] for i in range(len(truths))]


def find_objects(images: Array, network: str = 'emoji_scenes',
                 threshold: float = THRESHOLD) -> list[Found]:
  """The objects in each image [n, h, w, 3] in [0, 1], which are resized to 64 x 64."""
  objects = in_batches(_detector(network), np.asarray(images, np.float32),
                       batch=batch_for(len(images), BATCH))
  found = []
  for kind, score, box in zip(*objects, strict=True):
    kind, box = kind[score >= threshold], box[score >= threshold]
    found.append({int(k): box[kind == k] for k in kind})
  return found


@functools.cache
def _detector(network: str) -> Callable[[Array], detector.DetectedObjects]:
  module, variables = detector.load(detector.find(network))

  @jax.jit
  def detect(variables, images):
    return detector.peaks(module.apply(variables, resized(images, detector.SIDE)))
  return functools.partial(detect, variables)


def score(found: Sequence[Found], truths: Sequence[Truth]) -> dict[str, float | None]:
  """The shares of `object_accuracy` by key, from what was found in each image."""
  right = {key: [] for key in KEYS}
  by_kind = {}
  for objects, truth in zip(found, truths, strict=True):
    hits = {kind: kind in objects for kind in truth.counts}
    for kind, hit in hits.items():
      by_kind.setdefault(kind, []).append(hit)
    right['objects'] += hits.values()
    right['images'].append(all(hits.values()))
    right['precision'] += [kind in truth.counts for kind in objects]
    for key, answer in _details(objects, truth):
      right[key].append(answer)
  right['kinds'] = [np.mean(hits) for hits in by_kind.values()]
  return {key: float(np.mean(answers)) if answers else None for key, answers in right.items()}


def _details(found: Found, truth: Truth) -> Iterator[tuple[str, bool]]:
  """What the caption says beside the kinds, as pairs (key, whether it is right)."""
  for kind, count in truth.counts.items():
    yield 'counts', len(found.get(kind, ())) == count
  for kind, size in truth.sizes.items():
    yield 'sizes', kind in found and bool((_sizes(found[kind]) == SIZES.index(size)).all())
  if truth.relation:
    a, words, b = truth.relation
    yield 'relations', a in found and b in found and _holds(found[a], words, found[b])
  if truth.place:
    (kind,) = truth.counts
    yield 'places', kind in found and _place(found[kind]) == truth.place


def _sizes(boxes: np.ndarray) -> np.ndarray:
  """Indices into `SIZES`, from the longer sides."""
  return np.digitize((boxes[:, 2:] - boxes[:, :2]).max(1), CUTS)


def _place(boxes: np.ndarray) -> str:
  return place(Group(0, 0, tuple(map(tuple, np.clip(boxes, 0, 1)))))


def _holds(a: np.ndarray, words: str, b: np.ndarray) -> bool:
  """Whether all centers of `a` are where the words say, relative to all centers of `b`."""
  a, b = ((boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (a, b))
  axis = int(words in ('above', 'below'))
  first, second = (a, b) if words in ('to the left of', 'above') else (b, a)
  return bool(first[:, axis].max() < second[:, axis].min())
