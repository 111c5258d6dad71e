"""The input pipeline in numpy: a thread makes the batches of the next steps."""
from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import numpy as np

from xmc_jax.data.plan import Plan, caption_number, other_caption_number
from xmc_jax.data.source import Source
from xmc_jax.data.text import Tokenizer

AHEAD = 2  # batches that wait ready


def make_batch(source: Source, tokenizer: Tokenizer, *plans: Plan) -> dict[str, np.ndarray]:
  """Realises the plan of each view: the leaves of `pipeline.batches`, [r, b, …]."""
  rows = make_rows(source, tokenizer, *(plan.flat() for plan in plans))
  shape = plans[0].index.shape
  return {key: leaf.reshape(*shape, *leaf.shape[1:]) for key, leaf in rows.items()}


def make_rows(source: Source, tokenizer: Tokenizer, anchors: Plan,
              partners: Plan | None = None) -> dict[str, np.ndarray]:
  """The rows of flat plans, leaves [b, …]; those of the partners are named `partner_…`."""
  rows = {'image': _make_images(source, anchors), **_make_text(source, tokenizer, anchors)}
  if partners is not None:
    second = {'image': _make_images(source, partners),
              **_make_text(source, tokenizer, partners, anchors)}
    rows |= {f'partner_{key}': leaf for key, leaf in second.items()}
  return rows


def _make_images(source: Source, plan: Plan) -> np.ndarray:
  if source.images is not None:
    images = source.images[plan.index]
  else:
    images = np.empty((len(plan.index), source.size, source.size, 3), np.uint8)
    for row, (index, crop) in enumerate(zip(plan.index.tolist(), plan.crop.tolist(), strict=True)):
      images[row] = source.image(index, crop)
  mirrored = images[plan.flip][:, :, ::-1]
  for channel in range(3):  # together they are copied byte by byte, five times slower
    images[plan.flip, ..., channel] = mirrored[..., channel]
  return images


def _make_text(source: Source, tokenizer: Tokenizer, plan: Plan,
               anchors: Plan | None = None) -> dict[str, np.ndarray]:
  """An image that is its own partner gets another caption than the anchor's, if it has one."""
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
  # Digits of the draw that the caption's number does not hang on say which words a long one loses.
  tokens, mask = tokenizer.encode(captions, plan.caption * 1e6 % 1)
  return {'tokens': tokens, 'mask': mask, 'label': np.stack(labels)}


class Ahead(Iterator):
  """An endless iterator over make(step), make(step + 1), …, computed in a thread, two ahead.

  An exception of `make` is raised by the `next` that would have returned its batch. `close` stops
  the thread; it is also called when the iterator is used as a context manager, or is lost.
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
    """Stops the thread and waits for it; the iterator is then at its end."""
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
  """The thread's work; a function, so that the thread does not keep the iterator alive."""
  step = start
  while not stop.is_set():
    try:
      item = make(step), None
    except BaseException as error:  # handed to the reader, whatever it is
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
