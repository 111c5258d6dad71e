"""The input pipeline in tf.data: bitwise the same batches as `xmc_jax.data.arrays`."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np

from xmc_jax.data import arrays
from xmc_jax.data.layouts import COLUMNS, most_objects
from xmc_jax.data.plan import Plan
from xmc_jax.data.source import Source
from xmc_jax.data.text import Tokenizer
from xmc_jax.types import PARTNER
from xmc_jax.utils import machine
from xmc_jax.utils.optional import extra

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')  # not needed here, and it prints a notice
with extra('train', '--config.data.loader=tf_data (the loader arrays does without)'):
  import tensorflow as tf

THREADS = max(2, min(16, machine.cores()))
CHUNK = 16  # examples per call of Python; one by one they cost two to three times as much
LAST = np.iinfo(np.int64).max


def batches(source: Source, tokenizer: Tokenizer, plans_of: Callable[[int], tuple[Plan, ...]],
            start: int, shape: tuple[int, int], views: int = 1) -> Iterator[dict[str, np.ndarray]]:
  """Returns an endless iterator over the batches of plans_of(start), plans_of(start + 1), …

  `shape` is that of the plans, [r, b], and `views` is their number. TensorFlow does not use the
  accelerators. An exception in the source is raised unchanged by the next call of `next`.
  """
  for kind in ('GPU', 'TPU'):
    tf.config.set_visible_devices([], kind)
  return _Batches(source, tokenizer, plans_of, start, shape, views)


class _Batches(Iterator):

  def __init__(self, source, tokenizer, plans_of, start, shape, views):
    self._failures: list[Exception] = []
    calls = _Calls(source, tokenizer, plans_of, shape, views, self._failures)
    with tf.device('CPU'):
      self._iterator = _dataset(calls, start, shape).as_numpy_iterator()

  def __next__(self) -> dict[str, np.ndarray]:
    if self._iterator is None:
      raise StopIteration
    batch = next(self._iterator)
    if self._failures:
      self.close()
      raise self._failures[0]
    return batch

  def close(self) -> None:
    """Stops the threads; after that the iterator is exhausted."""
    self._iterator = None

  def __enter__(self) -> _Batches:
    return self

  def __exit__(self, *_) -> None:
    self.close()


class _Calls:
  """The parts of the pipeline that run in Python, as TensorFlow operations.

  The r * b examples of a step are processed in `chunks` chunks of `chunk` examples.
  """

  def __init__(self, source, tokenizer, plans_of, shape, views, failures):
    self._source, self._tokenizer, self._plans_of = source, tokenizer, plans_of
    self._views, self._failures = views, failures
    count = shape[0] * shape[1]
    self.chunk = max(rows for rows in range(1, CHUNK + 1) if count % rows == 0)
    self.chunks = count // self.chunk

  def plans(self, step: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns the leaves of the plans of all views in order, each [chunks, chunk, …]."""
    shape = self.chunks, self.chunk
    def call(step):
      leaves = [leaf for plan in self._plans_of(int(step)) for leaf in plan.flat().leaves()]
      return [leaf.reshape(*shape, *leaf.shape[1:]) for leaf in leaves]
    return tuple(self._call(call, [step], (tf.int64, tf.float64, tf.bool, tf.float64) * self._views,
                            [shape, shape, shape, (*shape, 2)] * self._views))

  def rows(self, *leaves: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the batch of one chunk, as `arrays.make_rows` makes it."""
    size = len(leaves) // self._views
    def call(*leaves):
      plans = [Plan(*leaves[i:i + size]) for i in range(0, len(leaves), size)]
      return [*arrays.make_rows(self._source, self._tokenizer, *plans).values()]
    label, side, n = np.asarray(self._source.label(0)), self._source.size, self.chunk
    length, rows = self._tokenizer.length, most_objects(self._source)
    specs = {'image': (tf.uint8, (n, side, side, 3)), 'tokens': (tf.int32, (n, length)),
             'mask': (tf.bool, (n, length)), 'label': (tf.as_dtype(label.dtype), (n, *label.shape))}
    if rows:
      specs['objects'] = tf.float32, (n, rows, COLUMNS)
    names = [f'{view}{leaf}' for view in ('', PARTNER)[:self._views] for leaf in specs]
    dtypes, shapes = zip(*specs.values())
    made = self._call(call, leaves, dtypes * self._views, shapes * self._views)
    return dict(zip(names, made, strict=True))

  def _call(self, function, inputs, dtypes, shapes):
    @tf.autograph.experimental.do_not_convert
    def guarded(*values):
      try:
        return function(*values)
      except Exception as error:  # raised by `__next__` before anyone sees the zeros
        self._failures.append(error)
        return [np.zeros(shape, dtype.as_numpy_dtype)
                for shape, dtype in zip(shapes, dtypes, strict=True)]
    leaves = tf.numpy_function(guarded, inputs, dtypes)
    for leaf, shape in zip(leaves, shapes, strict=True):
      leaf.set_shape(shape)
    return leaves


def _dataset(calls: _Calls, start: int, shape: tuple[int, int]) -> tf.data.Dataset:
  """Steps -> plans -> chunks of examples -> batches [r, b, …]."""
  data = tf.data.Dataset.range(start, LAST).map(calls.plans)
  data = data.unbatch().map(calls.rows, THREADS).batch(calls.chunks, drop_remainder=True)

  def finish(batch):
    return {key: tf.reshape(leaf, shape + tuple(leaf.shape[2:])) for key, leaf in batch.items()}

  options = tf.data.Options()
  options.deterministic = True
  options.threading.private_threadpool_size = THREADS
  return data.map(finish).with_options(options).prefetch(arrays.AHEAD)
