"""Scenes that differ from another in one thing: hard wrong captions and images for each other."""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from xmc_jax.data.embedded.scene_kinds import kinds
from xmc_jax.data.embedded.scene_layout import (
  BACKGROUNDS,
  SIZES,
  Scene,
  Spec,
  heldout_pairs,
  place_groups,
)
from xmc_jax.data.embedded.scene_words import NUMBERS, write_captions

MOST = 5       # objects of a scene after the change
NEAR = 0.7     # how often another number is the next one, up or down


def changed(scene: Scene, random: np.random.Generator) -> Scene:
  """`scene` with another number or kind or size of some objects, other places, or other colors.

  At least one of its captions is another one. After a change of number, kind or size all objects
  stand at new places. No held-out pair of kinds is made.
  """
  changes, weights = zip(*CHANGES)
  while True:
    new = changes[random.choice(len(changes), p=weights)](scene, random)
    if new is not None and write_captions(new) != write_captions(scene):
      return new


def number(scene: Scene, random: np.random.Generator) -> Scene | None:
  """Another number of one kind, from 1 to 4."""
  def change(kind: int, size: int, count: int) -> Spec:
    numbers = [n for n in range(1, len(NUMBERS)) if n != count]
    if random.random() < NEAR:
      numbers = [n for n in numbers if abs(n - count) == 1]
    return kind, size, int(random.choice(numbers))
  return _placed_anew(scene, change, random)


def kind(scene: Scene, random: np.random.Generator) -> Scene | None:
  """Another kind in place of one."""
  def change(kind: int, size: int, count: int) -> Spec:
    return int(random.choice([x for x in range(len(kinds())) if x != kind])), size, count
  return _placed_anew(scene, change, random)


def size(scene: Scene, random: np.random.Generator) -> Scene | None:
  """One kind small or large instead."""
  def change(kind: int, size: int, count: int) -> Spec:
    return kind, int(random.choice([x for x in (0, len(SIZES) - 1) if x != size])), count
  return _placed_anew(scene, change, random)


def mirrored(scene: Scene, random: np.random.Generator) -> Scene:
  """Left is right and above is below."""
  del random
  return dataclasses.replace(scene, groups=tuple(
      dataclasses.replace(group, boxes=tuple(
          (1 - x1, 1 - y1, 1 - x0, 1 - y0) for x0, y0, x1, y1 in group.boxes))
      for group in scene.groups))


def background(scene: Scene, random: np.random.Generator) -> Scene:
  """Another color in place of one of the background's."""
  i = int(random.integers(len(scene.background)))
  others = sorted(set(BACKGROUNDS) - set(scene.background))
  color = others[random.integers(len(others))]
  return dataclasses.replace(
      scene, background=(*scene.background[:i], color, *scene.background[i + 1:]))


# And how often each is tried.
CHANGES: Sequence[tuple[Callable[[Scene, np.random.Generator], Scene | None], float]] = (
    (number, 0.4), (kind, 0.23), (size, 0.12), (mirrored, 0.15), (background, 0.1))


def _placed_anew(scene: Scene, change: Callable[[int, int, int], Spec],
                 random: np.random.Generator) -> Scene | None:
  """The scene with one group changed; None if there cannot be such a scene, or there is no room."""
  specs = [(group.kind, group.size, len(group.boxes)) for group in scene.groups]
  i = int(random.integers(len(specs)))
  specs[i] = change(*specs[i])
  shown = sorted(kind for kind, _, _ in specs)
  if (len(set(shown)) < len(shown) or sum(count for *_, count in specs) > MOST
      or not heldout_pairs().isdisjoint(itertools.combinations(shown, 2))):
    return None
  for _ in range(8):
    if groups := place_groups(random, specs):
      return dataclasses.replace(scene, groups=groups)
  return None
