"""Asking a running training loop to stop between two steps."""
from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STDERR = 2


class StopSignal:
  """Turns SIGTERM and SIGINT into the flag `requested` while the context is open.

  The loop reads `requested` after each step and leaves by its usual door, so that the state is
  saved. A second SIGINT raises KeyboardInterrupt at once; a second SIGTERM changes nothing. The
  handlers that were there before come back at exit. Python has handlers in the main thread alone:
  in another one nothing is ever requested.

  The flag is of this process. Where several processes train together they have to agree on it
  before one of them leaves the loop (`processes.Agreement`), which takes them one step more.
  """

  requested: bool

  def __init__(self) -> None:
    self.requested = False
    self._interrupted = False
    self._when = 'this step' if jax.process_count() == 1 else 'the next step, with all processes'
    self._before: dict[int, Any] = {}

  def __enter__(self) -> StopSignal:
    for number in _SIGNALS if threading.current_thread() is threading.main_thread() else ():
      self._before[number] = signal.signal(number, self._receive)
    return self

  def __exit__(
      self,
      kind: type[BaseException] | None,
      error: BaseException | None,
      trace: TracebackType | None,
  ) -> None:
    for number, handler in self._before.items():
      # None stands for a handler that was not installed from Python; it cannot be put back.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)
    self._before = {}

  def _receive(self, number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT:
      if self._interrupted:
        raise KeyboardInterrupt
      self._interrupted = True
    if not self.requested:
      # os.write, because a handler may interrupt a print that holds the buffer's lock.
      again = '; press Ctrl-C again to stop at once' if number == signal.SIGINT else ''
      os.write(_STDERR, f'\nstopping after {self._when}{again}\n'.encode())
    self.requested = True
