"""From a source to the batches of training."""
from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Protocol

import jax.numpy as jnp
import numpy as np

from xmc_jax.data import arrays
from xmc_jax.data.partners import Partners
from xmc_jax.data.plan import Plan, plan
from xmc_jax.data.source import Source
from xmc_jax.data.text import Tokenizer
from xmc_jax.types import Array, UserError

LOADERS = ('tf_data', 'arrays')
SCALE = np.float32(1 / 255)


class Batches(Iterator[dict], Protocol):
  """Batches of the steps, without an end."""

  def close(self) -> None:
    """Stops the threads; the iterator is then at its end."""


def choose_loader(loader: str) -> str:
  """The loader that `loader` means here; UserError if there is none, or its package is missing."""
  if loader == 'auto':
    loader = 'tf_data' if find_spec('tensorflow') else 'arrays'
  if loader not in LOADERS:
    raise UserError(f"--config.data.loader={loader}: choose one of auto, {', '.join(LOADERS)}")
  if loader == 'tf_data':
    import xmc_jax.data.tf_data  # noqa: F401
  return loader


def batches(source: Source, tokenizer: Tokenizer, *, seed: int, start: int, rounds: int, rows: int,
            loader: str = 'auto', process: tuple[int, int] = (0, 1),
            partners: Partners | None = None) -> Batches:
  """Returns an endless iterator over the batches of the steps start, start + 1, …

  A batch is a pure function of (seed, step), and bitwise the same from both loaders. It has the
  leaves of `xmc_jax.types` as numpy arrays [r, local batch size, …]: image, tokens, mask, label,
  and objects if the source has boxes. Images are uint8, to save memory and transfer; `to_float`
  scales them on the device. With partners there are also the leaves `partner_…`, and the others do
  not change. The iterator has `close()`, which stops its threads, and is a context manager.

  Args:
    source, tokenizer: the images, and the tokenizer of their captions.
    seed, start: integers, at least 0.
    rounds: r, rounds of one step.
    rows: global batch size of one round, over all processes.
    loader: "tf_data" (TensorFlow's tf.data), "arrays" (numpy and a thread), or "auto": tf_data if
      TensorFlow is installed, arrays otherwise.
    process: index of this process and number of processes; each gets a contiguous block of
      `rows // number` examples, in the order of the processes.
    partners: samples the second view of each example from the same source; None for one view.

  Raises:
    UserError: the loader is unknown, TensorFlow is missing, or the batch size is not a multiple of
      the number of processes, or of examples that belong together.
  """
  loader = choose_loader(loader)
  if seed < 0:
    raise UserError(f'--config.seed={seed}: must be at least 0')
  first, last = _block(rows, process)
  together = getattr(source, 'together', 1)
  if rows % together:
    raise UserError(f'--config.batch_size={rows}: {together} successive examples of the data '
                    f'belong together; choose a multiple of {together}')

  def plans_of(step: int) -> tuple[Plan, ...]:
    anchors = plan(len(source), source.flippable, seed, step, rounds, rows, together)
    views = (anchors, partners.plan(anchors, seed, step)) if partners else (anchors,)
    return tuple(view.rows(first, last) for view in views)

  if loader == 'arrays':
    return arrays.Ahead(lambda step: arrays.make_batch(source, tokenizer, *plans_of(step)), start)
  from xmc_jax.data import tf_data  # imports TensorFlow, which the other loader does not need
  return tf_data.batches(source, tokenizer, plans_of, start, (rounds, last - first),
                         views=2 if partners else 1)


def to_float(image: Array) -> Array:
  """Scales uint8 images to float32 in [0, 1], on their device."""
  return image.astype(jnp.float32) * SCALE


def warnings(source: Source, tokenizer: Tokenizer, rows: int,
             script: str = 'latin', sample: int = 2000) -> list[str]:
  """Returns what of the data and the batch size spoils training without an error, in sentences.

  Args:
    source, tokenizer: as of `batches`.
    rows: global batch size of a round.
    script: of the captions, "latin" or "any"; as `config.text.script`.
    sample: captions of at most this many images are read.
  """
  found = []
  if rows > len(source):
    found.append(f'the batch size {rows} exceeds the {len(source):,} images of the data set, so a '
                 'batch has the same image several times and contrastive losses take it for its '
                 'own negative; lower --config.batch_size')
  if rows == 1:
    found.append('contrastive losses are 0 in a batch of one example, which has no negatives; '
                 'raise --config.batch_size')
  captions = _some_captions(source, sample)
  if unknown := tokenizer.unknown(captions, script):
    found.append(f'{len(unknown) / len(captions):.1%} of the captions have letters of another '
                 'script or words that the text encoder does not know, for instance '
                 f'{unknown[0]!r}')
  return found


def truncated_share(source: Source, tokenizer: Tokenizer, sample: int = 2000) -> float:
  """Returns the fraction of truncated captions, in an even sample of at most `sample` images."""
  captions = _some_captions(source, sample)
  return tokenizer.count_truncated(captions) / len(captions)


def _some_captions(source: Source, sample: int) -> list[str]:
  chosen = np.linspace(0, len(source) - 1, min(sample, len(source))).astype(int)
  return [caption for index in chosen.tolist() for caption in source.captions(index)]


def _block(rows: int, process: tuple[int, int]) -> tuple[int, int]:
  """Returns the start and stop of the block of this process."""
  index, count = process
  if rows < 1 or rows % count:
    raise UserError(f'--config.batch_size={rows}: {count} processes cannot share it; choose a '
                    f'multiple of {count}')
  share = rows // count
  return index * share, (index + 1) * share
