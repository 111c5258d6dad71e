"""The input pipeline in tf.data; the same batches as `xmc_jax.data.arrays`, to the bit."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np

from xmc_jax.data import arrays
from xmc_jax.data.plan import Plan
from xmc_jax.data.source import Source
from xmc_jax.data.text import Tokenizer
from xmc_jax.types import UserError

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')  # nothing here uses it, and it prints a notice
try:
  import tensorflow as tf
except ModuleNotFoundError as missing:
  raise UserError("The loader 'tf_data' needs TensorFlow, which is not installed; install it with "
                  "`pip install tensorflow-cpu`, or choose the loader 'arrays'.") from missing

THREADS = max(2, min(16, (os.cpu_count() or 2)))
LAST = np.iinfo(np.int64).max


def batches(source: Source, tokenizer: Tokenizer, plan_of: Callable[[int], Plan], start: int,
            shape: tuple[int, int]) -> Iterator[dict[str, np.ndarray]]:
  """Returns an endless iterator over the batches of plan_of(start), plan_of(start + 1), …

  `shape` is that of the plans, [r, b]. TensorFlow is kept off the accelerators. An exception of the
  source is raised, as it was, by the next `next`.
  """
  for kind in ('GPU', 'TPU'):
    tf.config.set_visible_devices([], kind)
  return _Batches(source, tokenizer, plan_of, start, shape)


class _Batches(Iterator):

  def __init__(self, source, tokenizer, plan_of, start, shape):
    self._failures: list[Exception] = []
    calls = _Calls(source, tokenizer, plan_of, shape, self._failures)
    with tf.device('CPU'):
      self._iterator = _dataset(source, calls, start, shape).as_numpy_iterator()

  def __next__(self) -> dict[str, np.ndarray]:
    if self._iterator is None:
      raise StopIteration
    batch = next(self._iterator)
    if self._failures:
      self.close()
      raise self._failures[0]
    return batch

  def close(self) -> None:
    """Stops the threads; the iterator is then at its end."""
    self._iterator = None

  def __enter__(self) -> _Batches:
    return self

  def __exit__(self, *_) -> None:
    self.close()


class _Calls:
  """The parts of the pipeline that run in Python, as TensorFlow operations."""

  def __init__(self, source, tokenizer, plan_of, shape, failures):
    self._source, self._tokenizer, self._plan_of = source, tokenizer, plan_of
    self._rows, self._failures = shape[0] * shape[1], failures

  def plan(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
    """index int64, caption float64, flip bool, each [r * b]."""
    def call(step):
      plan = self._plan_of(int(step))
      return plan.index.reshape(-1), plan.caption.reshape(-1), plan.flip.reshape(-1)
    leaves = self._call(call, [step], (tf.int64, tf.float64, tf.bool), [(self._rows,)] * 3)
    return dict(zip(('index', 'caption', 'flip'), leaves, strict=True))

  def image(self, index: tf.Tensor) -> tf.Tensor:
    """uint8 [S, S, 3]."""
    side = self._source.size
    return self._call(lambda i: (self._source.image(int(i)),), [index], (tf.uint8,),
                      [(side, side, 3)])[0]

  def text(self, index: tf.Tensor, caption: tf.Tensor) -> dict[str, tf.Tensor]:
    """tokens int32 and mask bool, [r * b, t]; label [r * b, …]."""
    def call(index, caption):
      text = arrays.make_text(self._source, self._tokenizer, Plan(index, caption, index < 0))
      return text['tokens'], text['mask'], text['label']
    label = np.asarray(self._source.label(0))
    width = (self._rows, self._tokenizer.length)
    leaves = self._call(call, [index, caption], (tf.int32, tf.bool, tf.as_dtype(label.dtype)),
                        [width, width, (self._rows, *label.shape)])
    return dict(zip(('tokens', 'mask', 'label'), leaves, strict=True))

  def _call(self, function, inputs, dtypes, shapes):
    @tf.autograph.experimental.do_not_convert
    def guarded(*values):
      try:
        return function(*values)
      except Exception as error:  # raised by the iterator, before the zeros can be seen
        self._failures.append(error)
        return [np.zeros(shape, dtype.as_numpy_dtype)
                for shape, dtype in zip(shapes, dtypes, strict=True)]
    leaves = tf.numpy_function(guarded, inputs, dtypes)
    for leaf, shape in zip(leaves, shapes, strict=True):
      leaf.set_shape(shape)
    return leaves


def _dataset(source: Source, calls: _Calls, start: int, shape: tuple[int, int]) -> tf.data.Dataset:
  """steps -> plans -> pictures -> texts -> [r, b, …]."""
  data = tf.data.Dataset.range(start, LAST).map(calls.plan)
  if source.images is not None:
    table = tf.constant(source.images)
    data = data.map(lambda p: {**p, 'image': tf.gather(table, p['index'])}, tf.data.AUTOTUNE)
  else:
    data = data.unbatch().map(lambda p: {**p, 'image': calls.image(p['index'])}, THREADS)
    data = data.batch(shape[0] * shape[1], drop_remainder=True)

  def finish(p):
    image = tf.where(p['flip'][:, None, None, None], tf.reverse(p['image'], [2]), p['image'])
    batch = {'image': tf.cast(image, tf.float32) * arrays.SCALE,
             **calls.text(p['index'], p['caption'])}
    return {key: tf.reshape(leaf, shape + tuple(leaf.shape[1:])) for key, leaf in batch.items()}

  options = tf.data.Options()
  options.deterministic = True
  options.threading.private_threadpool_size = THREADS
  return data.map(finish, 2).with_options(options).prefetch(arrays.AHEAD)
