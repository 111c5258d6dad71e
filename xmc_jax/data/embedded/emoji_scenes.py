"""Scenes of one to four emoji on a plain or graded background, rendered on the fly.

A scene is a function of (seed, split, index). Its captions name objects, numbers, sizes, relations
and the background; its label says which kinds it shows. The held-out split tests new combinations:
one pair of kinds in ten never occurs together in training, and every held-out scene has such a
pair. With the option `pairs`, each training scene has a second one beside it in the batch, which
differs in one thing (`scene_changes.py`).
"""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from xmc_jax.data.embedded import emoji_assets
from xmc_jax.data.embedded.scene_changes import MOST, changed
from xmc_jax.data.embedded.scene_kinds import kinds
from xmc_jax.data.embedded.scene_layout import (
  BACKGROUNDS,
  COUNTS,
  SIZES,
  Scene,
  sample_scene,
  trims,
)
from xmc_jax.data.embedded.scene_words import place, relation, write_captions
from xmc_jax.data.plan import MIDDLE, generator
from xmc_jax.types import UserError

SCENES, CHANGED = 2, 3  # random streams, distinct from those of `xmc_jax.data.plan`
# Whether each of the five captions mentions sizes, and places; all mention kinds and numbers.
SAYS_SIZES = (True, False, False, True, True)
SAYS_PLACES = (True, True, False, False, True)


class Truth(NamedTuple):
  """What a caption says about the objects. A kind is an index into `kinds()`.

  Attributes:
    counts: {kind: number of objects}; there are no others.
    sizes: {kind: "small" or "large"}, if the caption mentions it.
    relation: (kind, words, kind), how all objects of one kind are placed relative to all of
      another; None if the caption does not mention it.
    place: of the only object, one of `scene_words.PLACES`; None if the caption does not mention it.
  """
  counts: dict[int, int]
  sizes: dict[int, str]
  relation: tuple[int, str, int] | None
  place: str | None


class EmojiScenes:
  """Implements `xmc_jax.data.source.Source`; labels are float32 [l], multi-hot over the kinds."""
  name = 'emoji_scenes'
  flippable = False
  images = None
  most_objects = max(sum(counts) for counts in COUNTS)

  def __init__(self, size: int, examples: int, seed: int, heldout: bool):
    self.size = size
    self.class_names = tuple(kind.noun for kind in kinds())
    self._examples, self._seed, self._heldout = examples, seed, heldout
    self._sprites: dict[tuple[int, int, int], np.ndarray] = {}
    self._scene = functools.lru_cache(maxsize=4096)(self._sample)

  def __len__(self) -> int:
    return self._examples

  def scene(self, index: int) -> Scene:
    """Returns what image `index` shows."""
    return self._scene(int(index))

  def image(self, index: int, crop: Sequence[float] = MIDDLE) -> np.ndarray:
    scene = self.scene(index)
    canvas = self._backdrop(scene.background)
    for group in scene.groups:
      for box in group.boxes:
        self._paste(canvas, group.kind, box)
    return (np.clip(canvas, 0, 255) + 0.5).astype(np.uint8)

  def captions(self, index: int) -> tuple[str, ...]:
    return write_captions(self.scene(index))

  def truth(self, index: int, caption: int = 0) -> Truth:
    """Returns what caption number `caption`, 0 to 4, of image `index` says about the objects."""
    groups = self.scene(index).groups
    sizes = {g.kind: SIZES[g.size] for g in groups if SIZES[g.size] != 'medium'}
    truth = Truth({g.kind: len(g.boxes) for g in groups}, sizes if SAYS_SIZES[caption] else {},
                  None, None)
    if not SAYS_PLACES[caption]:
      return truth
    if len(groups) == 1:
      return truth._replace(place=place(groups[0]) if len(groups[0].boxes) == 1 else None)
    a, b = groups[:2]
    words = relation(a, b)
    return truth._replace(relation=words and (a.kind, words, b.kind))

  def label(self, index: int) -> np.ndarray:
    label = np.zeros(len(self.class_names), np.float32)
    label[[group.kind for group in self.scene(index).groups]] = 1
    return label

  def boxes(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the objects' kinds, int64 [k], and boxes x0, y0, x1, y1, float32 [k, 4] in [0, 1]."""
    pairs = [(group.kind, box) for group in self.scene(index).groups for box in group.boxes]
    return np.array([kind for kind, _ in pairs]), np.array([box for _, box in pairs], np.float32)

  def _sample(self, index: int) -> Scene:
    return sample_scene(generator(self._seed, SCENES, int(self._heldout), index), self._heldout)

  def _backdrop(self, names: tuple[str, ...]) -> np.ndarray:
    """Returns the background, float32 [S, S, 3] in [0, 255]."""
    top, bottom = (np.array(BACKGROUNDS[name], np.float32) for name in (names[0], names[-1]))
    ramp = np.linspace(0, 1, self.size, dtype=np.float32)[:, None]
    column = top + ramp * (bottom - top)
    return np.repeat(column[:, None], self.size, axis=1)

  def _paste(self, canvas: np.ndarray, kind: int, box: tuple[float, ...]) -> None:
    x0, y0, x1, y1 = box
    width, height = (max(1, round(side * self.size)) for side in (x1 - x0, y1 - y0))
    x, y = (min(round(start * self.size), self.size - side)
            for start, side in ((x0, width), (y0, height)))
    sprite = self._sprite(kind, width, height).astype(np.float32)
    part = canvas[y:y + height, x:x + width]
    part *= 1 - sprite[..., 3:] / 255
    part += sprite[..., :3]

  def _sprite(self, kind: int, width: int, height: int) -> np.ndarray:
    """Returns a kind's image without margins, premultiplied RGBA, uint8 [height, width, 4]."""
    key = kind, width, height
    if key not in self._sprites:
      image = emoji_assets.image(kinds()[kind].image).crop(trims()[kind]).convert('RGBa')
      down = width <= image.width and height <= image.height
      way = Image.Resampling.BOX if down else Image.Resampling.LANCZOS
      resized = image.resize((width, height), way)
      self._sprites[key] = np.frombuffer(resized.tobytes(), np.uint8).reshape(height, width, 4)
    return self._sprites[key]


class ScenePairs(EmojiScenes):
  """Training scenes, each followed by one that differs in one thing: examples 2 i and 2 i + 1.

  A pair's captions are those of the five that differ.
  """
  together = 2
  most_objects = MOST

  def __init__(self, size: int, examples: int, seed: int):
    super().__init__(size, 2 * examples, seed, heldout=False)

  def captions(self, index: int) -> tuple[str, ...]:
    own = super().captions(index)
    return tuple(own[number] for number in self._differing(index))

  def truth(self, index: int, caption: int = 0) -> Truth:
    return super().truth(index, self._differing(index)[caption])

  def _differing(self, index: int) -> list[int]:
    """The numbers of the captions that differ between example `index` and the other of its pair."""
    pair = (write_captions(self.scene(i)) for i in (index, index ^ 1))
    return [number for number, (a, b) in enumerate(zip(*pair)) if a != b]

  def _sample(self, index: int) -> Scene:
    scene = super()._sample(index // 2)
    return changed(scene, generator(self._seed, CHANGED, index)) if index % 2 else scene


def load(split: str, size: int = 64, examples: int = 50_000, heldout_examples: int = 5_000,
         seed: int = 0, pairs: bool = False) -> EmojiScenes:
  """Returns a split of the scenes; `examples` and `heldout_examples` are the lengths of the splits.

  pairs: the scenes of training in pairs, see `ScenePairs`; twice as many examples.

  Raises:
    UserError: a number is out of range.
  """
  if min(examples, heldout_examples) < 1 or seed < 0:
    raise UserError('--config.data.options: the scenes need examples >= 1, heldout_examples >= 1 '
                    f'and seed >= 0, not {examples}, {heldout_examples} and {seed}')
  heldout = split == 'heldout'
  if pairs and not heldout:
    return ScenePairs(size, examples, seed)
  return EmojiScenes(size, heldout_examples if heldout else examples, seed, heldout)
