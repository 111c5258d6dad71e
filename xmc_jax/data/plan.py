"""Every random choice of the pipeline, as a function of (seed, step).

The order is an endless row of epochs, each a shuffle keyed by (seed, epoch); step s reads the
positions s * r * b … (s + 1) * r * b of it. No state is carried from step to step, so that a run
can start at any step and reads there what a run from the first step would have read.
"""
from __future__ import annotations

import dataclasses
import functools

import numpy as np

MIDDLE = (0.5, 0.5)     # the crop of an image where none is drawn
ORDER, CHOICE = 0, 1  # the streams of randomness: the shuffles, and the choices within a step


@dataclasses.dataclass(frozen=True)
class Plan:
  """What one step reads: arrays [r, b], or [b] where there are no rounds.

  index    int64, the example, in [0, size of the source)
  caption  float64 in [0, 1), which of the captions, see `caption_number`
  flip     bool, whether to mirror the image
  crop     float64 in [0, 1), a last axis y, x more: which part of a larger image is taken
  """
  index: np.ndarray
  caption: np.ndarray
  flip: np.ndarray
  crop: np.ndarray

  def rows(self, start: int, stop: int) -> Plan:
    """The plan of the rows start … stop of every round."""
    return Plan(*(array[:, start:stop] for array in self.leaves()))

  def flat(self) -> Plan:
    """The same rows without the axis of rounds."""
    return Plan(*(array.reshape(-1, *array.shape[2:]) for array in self.leaves()))

  def leaves(self) -> tuple[np.ndarray, ...]:
    return self.index, self.caption, self.flip, self.crop


def generator(seed: int, *key: int) -> np.random.Generator:
  """The random numbers that belong to (seed, *key); all are integers >= 0."""
  return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, *key))))


def plan(size: int, flippable: bool | np.ndarray, seed: int, step: int, rounds: int,
         rows: int) -> Plan:
  """Returns the plan of one step for all rows of the global batch.

  Args:
    size: the number of examples of the source, >= 1; may be smaller than rounds * rows.
    flippable: one bool, or bool [size].
    seed, step: integers >= 0.
    rounds, rows: r and b; within an epoch no example repeats, in this round or another.
  """
  count = rounds * rows
  positions = np.arange(step * count, (step + 1) * count)
  index = np.empty(count, np.int64)
  for epoch in range(positions[0] // size, positions[-1] // size + 1):
    here = positions // size == epoch
    index[here] = _order(size, seed, epoch)[positions[here] % size]
  return choose(index.reshape(rounds, rows), flippable, generator(seed, CHOICE, step))


def choose(index: np.ndarray, flippable: bool | np.ndarray, random: np.random.Generator) -> Plan:
  """The plan of the examples `index` [r, b], their captions, flips and crops drawn anew."""
  caption = random.random(index.shape)
  allowed = flippable[index] if np.ndim(flippable) else flippable
  flip = (random.random(index.shape) < 0.5) & allowed
  return Plan(index, caption, flip, random.random((*index.shape, 2)))


def caption_number(choice: float, count: int) -> int:
  """The number of the caption among `count` of them; `choice` in [0, 1) is of a `Plan`."""
  return int(choice * count)


def other_caption_number(choice: float, count: int, taken: int) -> int:
  """The same among all but number `taken`, if there is another; each as likely."""
  if count == 1:
    return taken
  number = caption_number(choice, count - 1)
  return number + (number >= taken)


@functools.lru_cache(maxsize=8)
def _order(size: int, seed: int, epoch: int) -> np.ndarray:
  return generator(seed, ORDER, epoch).permutation(size)
