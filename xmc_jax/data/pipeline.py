"""From a source to the batches of the training steps and of the evaluation."""
from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Protocol

import jax.numpy as jnp
import numpy as np

from xmc_jax.data import arrays
from xmc_jax.data.partners import Partners
from xmc_jax.data.plan import MIDDLE, Plan, plan
from xmc_jax.data.source import Source
from xmc_jax.data.text import Tokenizer
from xmc_jax.types import Array, UserError

LOADERS = ('tf_data', 'arrays')
SCALE = np.float32(1 / 255)


class Batches(Iterator[dict], Protocol):
  """Batches of the steps, without an end."""

  def close(self) -> None:
    """Stops the threads; the iterator is then at its end."""


def batches(source: Source, tokenizer: Tokenizer, *, seed: int, start: int, rounds: int, rows: int,
            loader: str = 'auto', process: tuple[int, int] = (0, 1),
            partners: Partners | None = None) -> Batches:
  """Returns an endless iterator over the batches of the steps start, start + 1, …

  A batch is a pure function of (seed, step) and the same from both loaders, to the bit. It has the
  leaves of `xmc_jax.types`, as numpy arrays [r, rows here, …]: image, tokens, mask, label; but the
  images are uint8, a quarter of the memory and of the way to the device, where `to_float` scales
  them. With partners there are as many leaves again, `partner_…`, and the others are the same as
  without. The iterator has `close()`, which stops its threads, and is a context manager.

  Args:
    source, tokenizer: the images and what turns their captions to tokens.
    seed, start: integers >= 0.
    rounds: r, rounds of one step.
    rows: rows of one round of the global batch, over all processes.
    loader: "tf_data" (TensorFlow's tf.data), "arrays" (numpy and a thread), or "auto": tf_data where
      TensorFlow is installed, arrays elsewhere.
    process: this process and the number of processes; each gets one block of `rows // number`
      successive rows, in the order of the processes.
    partners: who draws each row's image of like label from the same source, if anyone.

  Raises:
    UserError: if the loader is unknown, TensorFlow is missing, the source is empty or the processes
      do not divide the rows.
  """
  if loader == 'auto':
    loader = 'tf_data' if find_spec('tensorflow') else 'arrays'
  if loader not in LOADERS:
    raise UserError(f"The loader {loader!r} is unknown; choose one of auto, {', '.join(LOADERS)}.")
  if len(source) == 0:
    raise UserError(f'The data set {source.name!r} has no examples here; choose other options.')
  if seed < 0:
    raise UserError(f'The seed of the data must be 0 or more, and is {seed}.')
  first, last = _block(rows, process)

  def plans_of(step: int) -> tuple[Plan, ...]:
    anchors = plan(len(source), source.flippable, seed, step, rounds, rows)
    views = (anchors, partners.plan(anchors, seed, step)) if partners else (anchors,)
    return tuple(view.rows(first, last) for view in views)

  if loader == 'arrays':
    return arrays.Ahead(lambda step: arrays.make_batch(source, tokenizer, *plans_of(step)), start)
  from xmc_jax.data import tf_data  # imports TensorFlow, which the other loader does without
  return tf_data.batches(source, tokenizer, plans_of, start, (rounds, last - first),
                         views=2 if partners else 1)


def to_float(image: Array) -> Array:
  """uint8 -> float32 in [0, 1], on the device that has the image."""
  return image.astype(jnp.float32) * SCALE


def eval_batches(source: Source, tokenizer: Tokenizer, rows: int,
                 process: tuple[int, int] = (0, 1)) -> Iterator[dict]:
  """Returns an iterator over every example once, in order, with its first caption, unflipped.

  The leaves are [rows here, …]: those of a training batch, without the axis of rounds, and `weight`
  float32, 1 for an example and 0 for a row that fills the last batch. All processes get the same
  number of batches.

  Raises:
    UserError: if the processes do not divide the rows.
  """
  first, last = _block(rows, process)

  def generate() -> Iterator[dict]:
    for start in range(0, len(source), rows):
      index = np.arange(start + first, start + last)[None]
      weight = (index < len(source)).astype(np.float32)
      index = np.minimum(index, len(source) - 1)
      one = Plan(index, np.zeros(index.shape), np.zeros(index.shape, bool),
                 np.full((*index.shape, 2), MIDDLE))
      batch = {**arrays.make_batch(source, tokenizer, one), 'weight': weight}
      yield {key: leaf[0] for key, leaf in batch.items()}

  return generate()


def truncated_share(source: Source, tokenizer: Tokenizer, sample: int = 2000) -> float:
  """The share of captions that `tokenizer` cuts, of up to `sample` images evenly over the set."""
  chosen = np.linspace(0, len(source) - 1, min(sample, len(source))).astype(int)
  captions = [caption for index in chosen.tolist() for caption in source.captions(index)]
  return tokenizer.count_truncated(captions) / len(captions)


def _block(rows: int, process: tuple[int, int]) -> tuple[int, int]:
  """The first row of this process, and the one after its last."""
  index, count = process
  if rows < 1 or rows % count:
    raise UserError(f'A batch of {rows} rows cannot be shared by {count} processes; choose a '
                    f'multiple of {count}.')
  share = rows // count
  return index * share, (index + 1) * share
