"""What a scene shows and where: groups of objects on a background, sampled at random.

Lengths are fractions of the image's side, so a scene is the same at every size. x points right and
y down.
"""
from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Sequence

import numpy as np

from xmc_jax.data.embedded import emoji_assets
from xmc_jax.data.embedded.scene_kinds import kinds

Box = tuple[float, float, float, float]  # x0, y0, x1, y1
Spec = tuple[int, int, int]              # kind, size and number of the objects of a group

# Number of objects in each group. A group has one kind and one size; kinds differ between groups.
COUNTS = ((1,), (2,), (3,), (4,), (1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1),
          (1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1), (1, 1, 1, 1))
COUNT_WEIGHTS = (6, 3, 2, 1, 9, 4, 4, 2, 2, 2, 5, 1, 1, 1, 3)

SIZES = ('small', 'medium', 'large')
SIDES = ((0.20, 0.25), (0.32, 0.38), (0.48, 0.56))  # longer side of an object, by size
# Weights of the sizes by the number of objects; most scenes then fit at the first attempt.
SIZE_WEIGHTS = {1: (1, 2, 3), 2: (1, 2, 2), 3: (2, 3, 1), 4: (4, 4, 1)}

BACKGROUNDS = {
    'white': (255, 255, 255), 'grey': (188, 190, 194), 'light blue': (184, 222, 248),
    'blue': (92, 140, 216), 'light green': (196, 230, 180), 'green': (98, 168, 104),
    'yellow': (250, 228, 120), 'pink': (247, 190, 214), 'orange': (248, 184, 112),
    'purple': (164, 130, 206)}
PLAIN = 0.6  # fraction of backgrounds with one color

TOUCH = 0.08  # largest fraction of the smaller of two boxes that the other may cover
HELDOUT_OF = 10  # one pair of kinds in this many is held out


@dataclasses.dataclass(frozen=True)
class Group:
  """Objects of one kind and size: indices into `kinds()` and `SIZES`, and the boxes."""
  kind: int
  size: int
  boxes: tuple[Box, ...]


@dataclasses.dataclass(frozen=True)
class Scene:
  """One to four objects in groups, on a background.

  `background` has one color name, or two: that of the top and that of the bottom.
  """
  groups: tuple[Group, ...]
  background: tuple[str, ...]


def sample_scene(random: np.random.Generator, heldout: bool) -> Scene:
  """Samples a scene with a held-out pair of kinds if `heldout`, otherwise without any."""
  chosen: tuple[Group, ...] | None = None
  while chosen is None:  # some samples do not fit into the image
    counts = _counts(random, at_least=2 if heldout else 1)
    chosen = _place(random, counts, _sample_kinds(random, len(counts), heldout))
  return Scene(chosen, _sample_background(random))


@functools.lru_cache(maxsize=1)
def heldout_pairs() -> frozenset[tuple[int, int]]:
  """Returns the held-out pairs of kinds (a, b), a < b, chosen by a hash of their nouns."""
  nouns = [kind.noun for kind in kinds()]
  held = []
  for a, b in itertools.combinations(range(len(nouns)), 2):
    text = '+'.join(sorted((nouns[a], nouns[b])))
    if hashlib.sha256(text.encode()).digest()[0] % HELDOUT_OF == 0:
      held.append((a, b))
  return frozenset(held)


@functools.lru_cache(maxsize=1)
def trims() -> tuple[tuple[int, int, int, int], ...]:
  """Returns left, top, right, bottom of the opaque part of each kind's emoji."""
  found = []
  for kind in kinds():
    alpha = emoji_assets.image(kind.image).getchannel('A')
    found.append(alpha.point(lambda a: 255 * (a > 16)).getbbox())
  return tuple(found)


@functools.lru_cache(maxsize=1)
def _sorted_pairs() -> tuple[tuple[int, int], ...]:
  return tuple(sorted(heldout_pairs()))


def _pick(random: np.random.Generator, weights: tuple[float, ...]) -> int:
  """Samples an index of `weights` with probability proportional to its weight."""
  left = random.random() * sum(weights)
  for number, weight in enumerate(weights):
    left -= weight
    if left < 0:
      return number
  return len(weights) - 1


def _below(random: np.random.Generator, count: int) -> int:
  return int(random.random() * count)


def _counts(random: np.random.Generator, at_least: int) -> tuple[int, ...]:
  while True:
    counts = COUNTS[_pick(random, COUNT_WEIGHTS)]
    if len(counts) >= at_least:
      return counts


def _sample_kinds(random: np.random.Generator, count: int, heldout: bool) -> list[int]:
  """Samples different kinds, with a held-out pair at random positions or without any."""
  while True:
    chosen = list(_sorted_pairs()[_below(random, len(_sorted_pairs()))]) if heldout else []
    chosen += [_below(random, len(kinds())) for _ in range(count - len(chosen))]
    if len(set(chosen)) < count:
      continue
    if heldout:
      return [chosen[i] for i in np.argsort(random.random(count))]
    if heldout_pairs().isdisjoint(itertools.combinations(sorted(chosen), 2)):
      return chosen


def _sample_background(random: np.random.Generator) -> tuple[str, ...]:
  names = tuple(BACKGROUNDS)
  top = _below(random, len(names))
  if random.random() < PLAIN:
    return (names[top],)
  bottom = (top + 1 + _below(random, len(names) - 1)) % len(names)
  return names[top], names[bottom]


def _place(random: np.random.Generator, counts: tuple[int, ...],
           chosen: list[int]) -> tuple[Group, ...] | None:
  """Places groups of random sizes, as `place_groups` does."""
  sizes = [_pick(random, SIZE_WEIGHTS[sum(counts)]) for _ in counts]
  return place_groups(random, list(zip(chosen, sizes, counts)))


def place_groups(random: np.random.Generator, specs: Sequence[Spec]) -> tuple[Group, ...] | None:
  """Places the groups, largest objects first; None if one of them found no free place."""
  groups: dict[int, Group] = {}
  taken: list[Box] = []
  for i in sorted(range(len(specs)), key=lambda i: -specs[i][1]):
    kind, size, count = specs[i]
    boxes = []
    for _ in range(count):
      box = _free_box(random, kind, size, taken)
      if box is None:
        return None
      boxes.append(box)
      taken.append(box)
    groups[i] = Group(kind, size, tuple(boxes))
  return tuple(groups[i] for i in range(len(specs)))


def _free_box(random: np.random.Generator, kind: int, size: int, taken: list[Box]) -> Box | None:
  longer = SIDES[size][_below(random, len(SIDES[size]))]
  left, top, right, bottom = trims()[kind]
  scale = longer / max(right - left, bottom - top)
  width, height = scale * (right - left), scale * (bottom - top)
  for _ in range(12):
    x, y = random.random() * (1 - width), random.random() * (1 - height)
    box = (x, y, x + width, y + height)
    if all(_covered(box, other) <= TOUCH for other in taken):
      return box
  return None


def _covered(a: Box, b: Box) -> float:
  """Returns the fraction of the smaller box that is covered by the other."""
  width = min(a[2], b[2]) - max(a[0], b[0])
  height = min(a[3], b[3]) - max(a[1], b[1])
  if width <= 0 or height <= 0:
    return 0.0
  smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
  return width * height / smaller
