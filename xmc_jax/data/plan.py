"""All random choices of the input pipeline, as a function of (seed, step).

The order is an endless sequence of epochs, each shuffled by (seed, epoch). Step s reads the
positions s * r * b to (s + 1) * r * b - 1. No state is carried from step to step, so a run that
starts at any step reads there what a run from the beginning would have read.
"""
from __future__ import annotations

import dataclasses
import functools

import numpy as np

MIDDLE = (0.5, 0.5)   # the center crop
ORDER, CHOICE = 0, 1  # random streams: the shuffles, and the choices within a step


@dataclasses.dataclass(frozen=True)
class Plan:
  """What one step reads: arrays [r, b], or [b] without rounds.

  Attributes:
    index: int64, the example, in [0, size of the source).
    caption: float64 in [0, 1), which of the captions; see `caption_number`.
    flip: bool, whether to mirror the image.
    crop: float64 in [0, 1), with one more axis (y, x): place of the square in a larger image.
  """
  index: np.ndarray
  caption: np.ndarray
  flip: np.ndarray
  crop: np.ndarray

  def rows(self, start: int, stop: int) -> Plan:
    """Returns the plan of the examples start to stop - 1 of every round."""
    return Plan(*(array[:, start:stop] for array in self.leaves()))

  def flat(self) -> Plan:
    """Merges the axes of rounds and examples."""
    return Plan(*(array.reshape(-1, *array.shape[2:]) for array in self.leaves()))

  def leaves(self) -> tuple[np.ndarray, ...]:
    """Returns the arrays in the order of the attributes."""
    return self.index, self.caption, self.flip, self.crop


def generator(seed: int, *key: int) -> np.random.Generator:
  """Returns the random generator of (seed, *key), integers that are at least 0."""
  return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, *key))))


def plan(size: int, flippable: bool | np.ndarray, seed: int, step: int, rounds: int,
         rows: int, together: int = 1) -> Plan:
  """Returns the plan of one step for the whole global batch.

  Args:
    size: number of examples of the source, at least 1; may be smaller than rounds * rows.
    flippable: a bool, or bool [size].
    seed, step: integers, at least 0.
    rounds, rows: r and b. Within an epoch no example is repeated.
    together: so many successive examples are next to one another in a batch and have the same
      choice of a caption; divides size and rows.
  """
  size, count = size // together, rounds * rows // together
  positions = np.arange(step * count, (step + 1) * count)
  index = np.empty(count, np.int64)
  for epoch in range(positions[0] // size, positions[-1] // size + 1):
    here = positions // size == epoch
    index[here] = _order(size, seed, epoch)[positions[here] % size]
  index = (together * index[:, None] + np.arange(together)).reshape(rounds, rows)
  chosen = choose(index, flippable, generator(seed, CHOICE, step))
  caption = np.repeat(chosen.caption[:, ::together], together, axis=1)
  return dataclasses.replace(chosen, caption=caption)


def choose(index: np.ndarray, flippable: bool | np.ndarray, random: np.random.Generator) -> Plan:
  """Returns the plan of the examples `index` [r, b] with random captions, flips and crops."""
  caption = random.random(index.shape)
  allowed = flippable[index] if np.ndim(flippable) else flippable
  flip = (random.random(index.shape) < 0.5) & allowed
  return Plan(index, caption, flip, random.random((*index.shape, 2)))


def caption_number(choice: float, count: int) -> int:
  """Returns the index of a caption among `count`, from `Plan.caption` in [0, 1)."""
  return int(choice * count)


def other_caption_number(choice: float, count: int, taken: int) -> int:
  """As `caption_number`, but never `taken` if there is another caption."""
  if count == 1:
    return taken
  number = caption_number(choice, count - 1)
  return number + (number >= taken)


@functools.lru_cache(maxsize=8)
def _order(size: int, seed: int, epoch: int) -> np.ndarray:
  return generator(seed, ORDER, epoch).permutation(size)
