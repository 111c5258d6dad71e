"""Worker processes that write shards; they end with the process that started them."""
from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xmc_jax.prepare.job import Job
from xmc_jax.types import UserError

POLL = 0.5          # seconds between two updates of the progress
ShardKey = tuple[str, int]
Done = Iterator[tuple[ShardKey, dict[str, Any]]]


class _Signal(BaseException):
  """A signal, on its way out of code that may suppress any `Exception`."""


class Stopped(UserError):
  """SIGINT or SIGTERM was received; the exit code is 128 + the signal, as in shells."""

  def __init__(self, number: int):
    super().__init__('stopped; finished shards are kept, and the same command continues')
    self.code = 128 + number


def make(job: Job, shards: Sequence[ShardKey], workers: int, reach: Callable[[int], None]) -> Done:
  """Writes shards, several at a time; yields (shard, facts) as soon as a shard is complete.

  Args:
    job: what to make.
    shards: (split, number) of each shard to write.
    workers: number of processes; with 1 the work is done in this process.
    reach: called now and then with the number of examples done.

  Raises:
    UserError: as the reader says, in any process; disk or memory is full; or a process was killed.
  """
  try:
    yield from (_here if workers == 1 else _pool)(job, shards, workers, reach)
  except MemoryError as error:
    raise UserError('--workers: memory ran out; run the same command again with fewer workers, or '
                    'make the largest images smaller') from error
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
      raise
    raise UserError(f'{job.folder}: cannot be written ({error.strerror}); free some space or '
                    'give another folder with --out, and run the same command again') from error


def _here(job: Job, shards: Sequence[ShardKey], workers: int, reach: Callable[[int], None]) -> Done:
  done = 0

  def tick() -> None:
    nonlocal done
    done += 1
    reach(done)
  for shard in shards:
    yield shard, job.write(*shard, tick)


def _pool(job: Job, shards: Sequence[ShardKey], workers: int, reach: Callable[[int], None]) -> Done:
  # Spawned, because a fork of a process with threads (JAX, TensorFlow) may hang.
  spawn = multiprocessing.get_context('spawn')
  counter = spawn.Value('q', 0)
  pool = concurrent.futures.ProcessPoolExecutor(
      min(workers, len(shards)), spawn, initializer=_begin, initargs=(job, counter))
  try:
    waiting = {pool.submit(_write, shard): shard for shard in shards}
    while waiting:
      finished, _ = concurrent.futures.wait(waiting, POLL, concurrent.futures.FIRST_COMPLETED)
      reach(counter.value)
      for future in finished:
        yield waiting.pop(future), future.result()
  except concurrent.futures.process.BrokenProcessPool as error:
    raise UserError('--workers: a worker process was killed, perhaps because memory ran out; run '
                    'the same command again with fewer workers') from error
  finally:     # after an error, shards in progress are abandoned
    processes = list((pool._processes or {}).values())
    if waiting:
      for process in processes:
        process.kill()
    pool.shutdown(cancel_futures=True)


_job: Job
_counter: Any


def _begin(job: Job, counter: Any) -> None:
  """Initializes a worker. Ctrl-C reaches workers too, but their parent handles it."""
  global _job, _counter
  _job, _counter = job, counter
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)


def _write(shard: ShardKey) -> dict[str, Any]:
  def tick() -> None:
    with _counter.get_lock():
      _counter.value += 1
  return _job.write(*shard, tick)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
  """Makes SIGINT and SIGTERM end the block with `Stopped`; only in the main thread."""
  def stop(number: int, frame: Any) -> None:
    raise _Signal(number)
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
  try:
    yield
  except _Signal as signal_:
    raise Stopped(*signal_.args) from None
  finally:
    for number, handler in before.items():
      signal.signal(number, handler or signal.SIG_DFL)
