"""The input pipeline in numpy; a thread makes the batches of the next steps."""
from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import numpy as np

from xmc_jax.data.layouts import layouts, most_objects
from xmc_jax.data.plan import Plan, caption_number, other_caption_number
from xmc_jax.data.source import Source
from xmc_jax.data.text import Tokenizer
from xmc_jax.types import PARTNER

AHEAD = 2  # batches made in advance


def make_batch(source: Source, tokenizer: Tokenizer, *plans: Plan) -> dict[str, np.ndarray]:
  """Makes the batch that the plan of each view describes: leaves as of `pipeline.batches`."""
  rows = make_rows(source, tokenizer, *(plan.flat() for plan in plans))
  shape = plans[0].index.shape
  return {key: leaf.reshape(*shape, *leaf.shape[1:]) for key, leaf in rows.items()}


def make_rows(source: Source, tokenizer: Tokenizer, anchors: Plan,
              partners: Plan | None = None) -> dict[str, np.ndarray]:
  """Makes a batch from plans without the axis of rounds: leaves [b, …]."""
  rows = _make_view(source, tokenizer, anchors)
  if partners is not None:
    second = _make_view(source, tokenizer, partners, anchors)
    rows |= {f'{PARTNER}{key}': leaf for key, leaf in second.items()}
  return rows


def _make_view(source: Source, tokenizer: Tokenizer, plan: Plan, anchors: Plan | None = None
               ) -> dict[str, np.ndarray]:
  view = {'image': _make_images(source, plan), **_make_text(source, tokenizer, plan, anchors)}
  if most_objects(source):
    view['objects'] = layouts(source, plan.index.tolist(), plan.flip.tolist())
  return view


def _make_images(source: Source, plan: Plan) -> np.ndarray:
  if source.images is not None:
    images = source.images[plan.index]
  else:
    images = np.empty((len(plan.index), source.size, source.size, 3), np.uint8)
    for row, (index, crop) in enumerate(zip(plan.index.tolist(), plan.crop.tolist(), strict=True)):
      images[row] = source.image(index, crop)
  mirrored = images[plan.flip][:, :, ::-1]
  for channel in range(3):  # numpy copies all three together byte by byte, five times slower
    images[plan.flip, ..., channel] = mirrored[..., channel]
  return images


def _make_text(source: Source, tokenizer: Tokenizer, plan: Plan,
               anchors: Plan | None = None) -> dict[str, np.ndarray]:
  """Makes tokens, masks and labels. An image that is its own partner gets another caption."""
  captions, labels = [], []
  for row, (index, choice) in enumerate(
      zip(plan.index.tolist(), plan.caption.tolist(), strict=True)):
    known = source.captions(index)
    number = caption_number(choice, len(known))
    if anchors is not None and index == anchors.index[row]:
      taken = caption_number(anchors.caption[row], len(known))
      number = other_caption_number(choice, len(known), taken)
    captions.append(known[number])
    labels.append(source.label(index))
  # The low-order digits of the same random number choose which words of a long caption to drop;
  # they are independent of the caption's index.
  tokens, mask = tokenizer.encode(captions, plan.caption * 1e6 % 1)
  return {'tokens': tokens, 'mask': mask, 'label': np.stack(labels)}


class Ahead(Iterator):
  """Endless iterator over make(start), make(start + 1), …, computed ahead of time in a thread.

  An exception in `make` is raised by the `next` that would have returned its batch. `close` stops
  the thread; leaving the context manager does too.
  """

  def __init__(self, make: Callable[[int], dict[str, np.ndarray]], start: int):
    self._ready: queue.Queue = queue.Queue(AHEAD)
    self._stop = threading.Event()
    self._thread = threading.Thread(
        target=_work, args=(make, start, self._ready, self._stop), daemon=True)
    self._thread.start()

  def __next__(self) -> dict[str, np.ndarray]:
    if self._stop.is_set():
      raise StopIteration
    batch, error = self._ready.get()
    if error is not None:
      self.close()
      raise error
    return batch

  def close(self) -> None:
    """Stops the thread and waits for it; after that the iterator is exhausted."""
    self._stop.set()
    while not self._ready.empty():
      self._ready.get_nowait()
    self._thread.join()

  def __enter__(self) -> Ahead:
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def __del__(self) -> None:
    self._stop.set()


def _work(make: Callable, start: int, ready: queue.Queue, stop: threading.Event) -> None:
  """Runs in the thread. A method would keep the iterator alive through its `self`."""
  step = start
  while not stop.is_set():
    try:
      item = make(step), None
    except BaseException as error:  # raised again in the thread that reads
      _put(ready, (None, error), stop)
      return
    _put(ready, item, stop)
    step += 1


def _put(ready: queue.Queue, item: tuple, stop: threading.Event) -> None:
  while not stop.is_set():
    try:
      return ready.put(item, timeout=0.1)
    except queue.Full:
      continue
