"""A watchdog that ends this process, with one sentence, when another process of the run is lost.

JAX's coordination service, which lives in process 0, receives the heartbeats of all processes and
keeps a store of keys and values. The watchdog asks it which processes are alive, and learns from a
key of the store when a process stops with an error.
"""
from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
from typing import Any

import jax

LOST = 75               # exit code, EX_TEMPFAIL of sysexits.h: the same command may succeed later
HOST = 'xmc/host/{}'    # key of a process's host name, which every process has to set
_FAILURE = 'xmc/failure'
_GRACE = 5.0            # seconds in which each process may report an error that all of them have
_PATIENCE = 30.0        # seconds that JAX's abort waits for the watchdog's question to be answered
_aborting, _unrelated = threading.Event(), threading.Event()


class Watchdog:
  """Ends this process when another one is lost or stops with an error.

  The exit code is `LOST`, but after a user error of the other process that error's own: to start
  again would not help.

  Args:
    client: client of JAX's coordination service.
    process, processes: index of this process, and their number.
    heartbeat: seconds without a heartbeat after which the service counts a process as lost.
    prefix: what every message begins with.
  """

  def __init__(self, client: Any, process: int, processes: int, heartbeat: float, prefix: str):
    self._client, self._process, self._processes = client, process, processes
    self._heartbeat, self._prefix = heartbeat, prefix
    self._interval = min(2.0, heartbeat / 10)              # seconds between two questions
    self._rounds, self._stopped, self._lock = 0, False, threading.Lock()
    self._threads = [threading.Thread(target=watch, daemon=True)
                     for watch in (self._watch_coordinator, self._watch_processes)]
    for thread in self._threads:
      thread.start()

  def wait_for_all(self) -> None:
    """Returns once all processes are known to be alive now; if one is lost it does not return."""
    rounds = self._rounds + 2                  # the current round may have begun too early
    while self._rounds < rounds:
      time.sleep(0.1)

  def report(self, reason: str, code: int = LOST) -> None:
    """Tells the others that this process stops, and waits until they stop too, with exit `code`."""
    self._stopped = True
    with contextlib.suppress(ConnectionError):
      self._announce(f'{self._name(self._process)} stopped ({reason})', _GRACE, code)
    self._meet(_GRACE + 2)

  def stop(self) -> None:
    """Makes the watchdog accept that the other processes leave."""
    self._stopped = True

  def close(self) -> None:
    """Shuts JAX's client down; call it when all watchdogs have stopped.

    Process 0 waits for the others to leave, because its service must outlive their clients.
    """
    if self._process == 0:
      self._threads[1].join(self._heartbeat)
    jax.distributed.shutdown()
    for thread in self._threads:
      thread.join(self._heartbeat)

  def _watch_coordinator(self) -> None:
    """Waits for the key `_FAILURE`, and notices when the service no longer answers."""
    silence = 0.0              # seconds; not by the clock, because this process may have paused
    try:
      while (failure := get(self._client, _FAILURE, self._interval)) is None:
        aborting = _aborting.is_set()
        answered = get(self._client, HOST.format(0), self._interval)
        silence = 0.0 if answered else silence + 2 * self._interval
        # JAX itself gives up and aborts the process, after half of `heartbeat` at the earliest.
        if silence > self._heartbeat / 2 or (aborting and not answered):
          raise ConnectionError
        if aborting:
          _unrelated.set()
    except ConnectionError:
      self._end(f'process 0 of {self._processes} is lost: its coordination service does not answer')
    else:
      sentence, grace, code = json.loads(failure)
      time.sleep(grace)
      self._end(sentence, code, meet=True)

  def _watch_processes(self) -> None:
    """Asks who is alive. The service answers when all processes that are alive have asked."""
    everyone = list(range(self._processes))
    with contextlib.suppress(RuntimeError, ConnectionError):   # no service: see the other thread
      while len(alive := self._client.get_live_nodes(everyone)) > 1 or not self._stopped:
        lost = [process for process in everyone if process not in alive]
        if lost and not self._stopped:
          sentence = f'{self._name(lost[0])} is lost: no heartbeat for {self._heartbeat:g} s'
          self._announce(sentence, 0, LOST)
          self._end(sentence, meet=True)
        self._rounds += 1
        time.sleep(self._interval)

  def _name(self, process: int) -> str:
    return f'process {process} of {self._processes} ({get(self._client, HOST.format(process), 1)})'

  def _announce(self, sentence: str, grace: float, code: int) -> None:
    put(self._client, _FAILURE, json.dumps([sentence, grace, code]))

  def _meet(self, seconds: float) -> None:
    """Waits for all processes to be about to exit, so that the service outlives its clients."""
    def wait():
      with contextlib.suppress(RuntimeError):
        self._client.wait_at_barrier('xmc/end', int(1000 * seconds))
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(seconds + 1)   # a client that is about to abort does not return
    if self._process == 0:     # the service, which is here, has yet to answer the others
      time.sleep(1)

  def _end(self, sentence: str, code: int = LOST, meet: bool = False) -> None:
    with self._lock:           # only one thread ends the process
      if not self._stopped:
        then = 'the' if code == LOST else 'once this is corrected, the'
        write(f'{self._prefix}{sentence}, so this process ends too (code {code}); {then} same '
              'command on every host resumes from the last checkpoint')
        if meet:
          self._meet(2)
        os._exit(code)         # the main thread may be inside a collective that never returns


def write(sentence: str) -> None:
  """Writes a line to stderr, after what stdout holds; from any thread."""
  flush = threading.Thread(target=sys.stdout.flush, daemon=True)
  flush.start()
  flush.join(1.0)              # the main thread may hold the lock of stdout
  os.write(2, f'{sentence}\n'.encode())


def put(client: Any, key: str, value: str) -> bool:
  """Adds a key to the store; False if it exists. ConnectionError if the service is gone."""
  try:
    client.key_value_set(key, value)
  except RuntimeError as error:
    if 'ALREADY_EXISTS' in str(error):
      return False
    raise ConnectionError(str(error)) from error
  return True


def get(client: Any, key: str, seconds: float) -> str | None:
  """The value of a key; None if there is no answer in time. ConnectionError as for `put`."""
  try:
    return client.blocking_key_value_get(key, int(1000 * seconds))
  except RuntimeError as error:
    if 'DEADLINE_EXCEEDED' in str(error):
      return None
    raise ConnectionError(str(error)) from error


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _on_abort(number: int) -> None:
  _aborting.set()
  _unrelated.wait(_PATIENCE)


def delay_abort() -> None:
  """Lets the watchdog write its sentence and end the process before JAX aborts it.

  JAX's client calls abort() in a thread of its own as soon as it loses process 0. The abort goes
  on when process 0 answers the watchdog, and so has another cause, or after `_PATIENCE` seconds. A
  handler of `signal.signal` would run in the main thread, which may be inside a collective.
  """
  libc = ctypes.CDLL(None)
  libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
  libc.signal(signal.SIGABRT, ctypes.cast(_on_abort, ctypes.c_void_p))
