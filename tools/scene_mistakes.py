"""Captions of `emoji_scenes` that are wrong in one thing, for tools/train_matcher.py."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from xmc_jax.data.embedded.emoji_scenes import EmojiScenes
from xmc_jax.data.embedded.scene_changes import background, mirrored
from xmc_jax.data.embedded.scene_kinds import kinds
from xmc_jax.data.embedded.scene_layout import SIZES, Group, Scene
from xmc_jax.data.embedded.scene_words import NUMBERS, write_captions

Change = Callable[[Scene, np.random.Generator], Scene]


def captions(data: EmojiScenes, index: int, caption: int,
             random: np.random.Generator) -> tuple[str, str]:
  """Two wrong captions of image `index`, written like its caption number `caption`, 0 to 4.

  The first has another number of one kind of object. The second has another kind, size, background
  or place, of those that this caption mentions.
  """
  scene = data.scene(index)
  right = write_captions(scene)[caption]
  written = lambda change: write_captions(change(scene, random))[caption]
  second = right
  while second == right:
    second = written(OTHERS[random.integers(len(OTHERS))])
  return written(number), second


def number(scene: Scene, random: np.random.Generator) -> Scene:
  """Another number of one kind, from 1 to 4."""
  return _with_group(scene, random, lambda group: dataclasses.replace(
      group, boxes=(group.boxes * len(NUMBERS))[:_other(len(group.boxes), range(1, len(NUMBERS)),
                                                        random)]))


def kind(scene: Scene, random: np.random.Generator) -> Scene:
  """Another kind that is not in the scene, in place of one that is."""
  absent = set(range(len(kinds()))) - {group.kind for group in scene.groups}
  return _with_group(scene, random, lambda group: dataclasses.replace(
      group, kind=_other(group.kind, sorted(absent), random)))


def size(scene: Scene, random: np.random.Generator) -> Scene:
  """One kind small or large instead; not medium, which captions omit and so would not be wrong."""
  return _with_group(scene, random, lambda group: dataclasses.replace(
      group, size=_other(group.size, (0, len(SIZES) - 1), random)))


OTHERS: tuple[Change, ...] = (kind, size, mirrored, background)


def _with_group(scene: Scene, random: np.random.Generator,
                change: Callable[[Group], Group]) -> Scene:
  """The scene with a random one of its groups changed."""
  i = int(random.integers(len(scene.groups)))
  groups = scene.groups
  return dataclasses.replace(scene, groups=(*groups[:i], change(groups[i]), *groups[i + 1:]))


def _other(value, values, random: np.random.Generator):
  """A random one of the values that are not `value`."""
  return random.choice([other for other in values if other != value]).item()
