"""Whether images of `emoji_scenes` show what their captions say: object accuracy, by a detector.

Semantic object accuracy (Hinz et al., arXiv 1910.13321) asks a detector of COCO's 80 classes for
the one class that a word of the caption suggests. Here the truth of a caption is known, so all
of it is asked: every kind, how many, their sizes, the relation of two kinds (as VISOR does, Gokhale
et al., arXiv 2212.10015) and the place of a single object. Backgrounds are not judged.

The detector (`xmc_jax/evals/judges/detector.py`) saw real training images only. What to compare a
figure with, on 2,000 real held-out images of 64 px, their first captions:

                               objects  kinds  images  precision  counts  sizes  relations
  real                           0.995  0.994     0.988      0.999   0.991  0.983      0.992
  captions of other images     0.021  0.020     0.002      0.021   0.013  0.006      0.001

Single objects, and so places, occur in the train split alone; of 291 real ones there that the
detector never saw, 0.955 have the place that is said. Blur costs little while a person still
recognises the things: 0.98 of the objects are found at 32 px, 0.92 under a Gaussian blur of 1.5
pixels, 0.39 under 3. The detector must name what it finds as one of 114 kinds, so a blob is often
called something, and one with the right colour is sometimes called right: ellipses of the objects'
mean colours count as 0.15 of the objects, at a precision of 0.21. So read `objects` beside
`precision`.
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
from xmc_jax.evals.alignment import at_side
from xmc_jax.evals.judges import detector
from xmc_jax.types import Array, UserError

# The least score of an object that counts as found. As SOA's; on 2,000 real train images that the
# detector never saw, precision is 0.999 and recall 0.994, and from 0.2 to 0.6 both are above 0.99.
THRESHOLD = 0.5
CUTS = [(low[-1] + high[0]) / 2 for low, high in itertools.pairwise(SIDES)]  # between the sizes
BATCH = 128
KEYS = ('objects', 'kinds', 'images', 'precision', 'counts', 'sizes', 'relations', 'places')
Found = dict[int, np.ndarray]  # {kind: boxes [k, 4], the surest first}


def object_accuracy(
    images: Array, truths: Sequence[Truth], reals: Array | None = None, *,
    which: str = 'emoji_scenes', seed: int = 0) -> dict[str, float | None]:
  """Shares of what captions say that is found in their images.

  Args:
    images: [n, h, w, 3] in [0, 1], of any size; image i was made from caption i.
    truths: what the captions say, `EmojiScenes.truth(index, caption)`.
    reals: the real images of the captions, [n, h, w, 3] in [0, 1], for the ceiling.
    which: the detector, a name or path as `xmc_jax.evals.judges.detector.find` takes it.
    seed: of the draw of other captions.
  Returns:
    Shares in [0, 1]; None where no caption says such a thing. What is said of an object that was
    not found is wrong.
      objects    of the kinds that the captions name, those found (SOA-I counts so, by mentions)
      kinds      the same for each kind, and the mean of all kinds (as SOA-C)
      images   of the images, those in which every named kind is found
      precision  of the kinds found, those that the captions name
      counts     of the named kinds, those found in the number that is said
      sizes      of the sizes said, those that all objects of the kind have
      relations  of the relations said, those that hold between all objects of both kinds
      places     of the places said, those right
    The same keys with `_chance`: these images under captions of other images; and, if `reals`
    are given, with `_real`.
  Raises:
    UserError: there is no such detector, or fewer than two images.
  """
  if not len(images) == len(truths) == len(truths if reals is None else reals):
    raise ValueError('images, truths and reals must be of the same rows')
  if len(images) < 2:
    raise UserError('Object accuracy needs at least 2 images, for the captions of others.')
  found = find_objects(images, which)
  scores = {'': score(found, truths), '_chance': score(found, others(truths, seed))}
  if reals is not None:
    scores['_real'] = score(find_objects(reals, which), truths)
  return {key + ending: part[key] for ending, part in scores.items() for key in KEYS}


def others(truths: Sequence[Truth], seed: int) -> list[Truth]:
  """The truths in a random order in which none keeps its place."""
  order = np.random.default_rng(seed).permutation(len(truths))
  changed = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
  return [truths[changed[i]] for i in range(len(truths))]


def find_objects(
    images: Array, which: str = 'emoji_scenes', threshold: float = THRESHOLD) -> list[Found]:
  """The objects of each image [n, h, w, 3] in [0, 1], resized to the detector's 64 x 64."""
  detect, rows = _detector(which), []
  for start in range(0, len(images), BATCH):
    part = np.asarray(images[start:start + BATCH], np.float32)
    padded = np.pad(part, [(0, BATCH - len(part)), (0, 0), (0, 0), (0, 0)])
    for kind, sure, box in zip(*jax.device_get(detect(padded)), strict=True):
      kind, box = kind[sure >= threshold], box[sure >= threshold]
      rows.append({int(k): box[kind == k] for k in kind})
    del rows[start + len(part):]
  return rows


@functools.cache
def _detector(which: str) -> Callable[[Array], detector.Objects]:
  module, variables = detector.load(detector.find(which))

  @jax.jit
  def detect(variables, images):
    return detector.peaks(module.apply(variables, at_side(images)))
  return functools.partial(detect, variables)


def score(found: Sequence[Found], truths: Sequence[Truth]) -> dict[str, float | None]:
  """The shares of `object_accuracy`, by key, from what was found in each image."""
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
  """What the caption says beside the kinds: (key, whether it is right)."""
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
  """Numbers in `SIZES`, from the longer sides."""
  return np.digitize((boxes[:, 2:] - boxes[:, :2]).max(1), CUTS)


def _place(boxes: np.ndarray) -> str:
  return place(Group(0, 0, tuple(map(tuple, np.clip(boxes, 0, 1)))))


def _holds(a: np.ndarray, words: str, b: np.ndarray) -> bool:
  """Whether all centres of `a` lie on the side of all centres of `b` that the words say."""
  a, b = ((boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (a, b))
  axis = int(words in ('above', 'below'))
  first, second = (a, b) if words in ('to the left of', 'above') else (b, a)
  return bool(first[:, axis].max() < second[:, axis].min())
