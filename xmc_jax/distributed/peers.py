"""Who of the processes of one run is alive, and what they have to agree on.

A star of TCP connections with process 0 in the middle, all to the coordinator's one port. Two kinds
of connection arrive there: ours (`wire.Line`), for signs of life and values to be compared, and
those of JAX's own coordination service, which are passed on to a loopback port.

Why not JAX's service alone: its client (jaxlib 0.10) aborts the process with a dump of its stack as
soon as it misses a peer, cannot be told otherwise from Python (its callback ends in std::bad_cast),
and knows of a dead process only by its silence, process 0 excepted. Here a closed connection is
known at once and silence after the stated time, both before JAX knows: its client is connected to
a relay in its own process, which stays open when the far end has closed.
"""
from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import Any

from xmc_jax.distributed import wire
from xmc_jax.types import UserError

PEER_IS_GONE = 75              # EX_TEMPFAIL of sysexits.h: try again
GRACE = 5.0                    # seconds for a mistake of all to end each in its own words
_HELLO, _HTTP2 = b'XMC ', b'PRI '       # the first bytes of our connections and of JAX's
_STDERR = 2


class NotTogether(UserError):
  """Not all processes came in time. A host may be slow or starting anew: to be tried again."""
  code = PEER_IS_GONE


class Peers:
  """This process, `index`, among the `count` processes of a run.

  address     'HOST:PORT' of process 0, the same for all
  heartbeat   seconds of silence after which a peer counts as dead
  wait        seconds to wait for all processes to come
  facts       what has to be the same everywhere: {name: string}
  command     its name, with which a message begins

  The constructor returns when all have come. From then on, until `finish` or `leave`, this process
  ends by itself when another one is gone, whatever it is doing: with one sentence and the exit code
  `PEER_IS_GONE`. UserError where the others do not come or differ in `facts`.
  """

  def __init__(self, address: str, count: int, index: int, *, heartbeat: float, wait: float,
               facts: dict[str, str], command: str = ''):
    self.count, self.index, self._begin = count, index, f'{command}: ' if command else ''
    self._address, self._heartbeat, self._wait = address, heartbeat, wait
    self._interval = min(5.0, heartbeat / 5)          # seconds between two signs of life
    self._facts = {'--processes': str(count), **facts}
    self._lines: dict[int, wire.Line] = {}
    self._readers: list[threading.Thread] = []
    self._values: dict[int, dict[int, Any]] = {}      # of gather: round -> process -> value
    self._round = 0
    self._over = False                                # from here on nobody is missed
    self._mistake: str | None = None                  # of a process that was not let in
    self._changed = threading.Condition(threading.RLock())
    self.service_port = wire.free_port()              # for JAX's service, on process 0
    host, port = wire.split_address(address)
    if index == 0:
      self._gather_all(host, port)
    else:
      self._lines[0] = self._call(host, port)
    self.service = f'127.0.0.1:{self.service_port if index == 0 else _tunnel(host, port)}'
    for line in self._lines.values():
      reader = threading.Thread(target=self._read, args=[line], daemon=True)
      reader.start()
      self._readers.append(reader)
    wire.spawn(self._tick)

  def gather(self, value: Any, last: bool = False) -> list:
    """The values of all processes, in their order; each has to call it. JSON only.

    After the `last` one nobody is missed any more.
    """
    number, self._round = self._round, self._round + 1
    message = {'round': number, 'value': value, 'last': last}
    if self.index == 0:
      self._take(message, 0)
    else:
      self._lines[0].send(message)
    with self._changed:
      self._changed.wait_for(lambda: len(self._values.get(number, ())) == self.count)
      return [value for _, value in sorted(self._values.pop(number).items())]

  def close(self) -> None:
    """Ends the connections, process 0 last; call it after a last `gather`."""
    for line in self._lines.values():
      if self.index != 0:
        line.finish()
    for reader in self._readers:
      reader.join(self._heartbeat if self.index == 0 else 0)

  def leave(self, reason: str) -> None:
    """Tells the others that this process ends, and why; they follow within `GRACE` seconds."""
    self._over = True
    for line in self._lines.values():
      line.send({'bye': self.index, 'reason': reason})
      line.finish()
    time.sleep(0.3)            # an exit at once could reset the connections before this is read

  def hear(self) -> None:
    """Returns when all peers have shown a sign of life; where they do not, it does not return."""
    time.sleep(1.0)            # a closed connection is noticed by then
    while any(line.silence() > 3 * self._interval for line in self._lines.values()):
      time.sleep(0.1)

  # Coming together.

  def _gather_all(self, host: str, port: int) -> None:
    try:
      wire.accept(wire.listen(host, port), self._greet)
    except OSError as error:
      raise UserError(f'process 0 cannot listen at {self._address} ({error.strerror or error}); '
                      'the coordinator has to be the host of process 0, and a port that is free '
                      'there') from error
    with self._changed:
      self._changed.wait_for(lambda: self._mistake or len(self._lines) == self.count - 1,
                             self._wait)
      missing = sorted(set(range(1, self.count)) - self._lines.keys())
      late = missing and not self._mistake
      if late:
        self._mistake = (f'after {self._wait:g} s there is nothing of process '
                         f'{", ".join(map(str, missing))} of {self.count} at {self._address}; '
                         'start the same command on every host, each with its own number')
      for line in self._lines.values():
        line.send({'refused': self._mistake, 'late': bool(late)} if self._mistake else
                  {'welcome': True})
    if self._mistake:
      time.sleep(0 if late else GRACE)       # for those who come now to hear of it too
      raise (NotTogether if late else UserError)(self._mistake)

  def _greet(self, end: socket.socket) -> None:
    """Looks at the first bytes of a connection to process 0: one of ours, JAX's, a stranger's."""
    try:
      end.settimeout(10)
      first = end.recv(4, socket.MSG_PEEK | socket.MSG_WAITALL)
      if first == _HTTP2:
        end.settimeout(None)
        service = socket.create_connection(('127.0.0.1', self.service_port))
        return wire.relay(end, service, hold=False)
      if first == _HELLO:
        end.recv(4)
        line = wire.Line(end, -1, '')
        hello = line.read() or {}
        line.patience(None)
        line.process, line.name = hello.get('process'), str(hello.get('host'))
        return self._admit(hello, line)
    except Exception:          # whatever a stranger may send
      pass
    end.close()

  def _admit(self, hello: dict[str, Any], line: wire.Line) -> None:
    theirs = hello.get('facts', {})
    differing = [name for name, value in self._facts.items() if theirs.get(name) != value]
    with self._changed:
      if differing and len(self._lines) < self.count - 1:
        name = differing[0]
        self._mistake = (f'{name} is {theirs.get(name)} on process {line.process} ({line.name}) '
                         f'and {self._facts[name]} on process 0; it must be the same on every host')
      if self._mistake:
        line.send({'refused': self._mistake})
      elif line.process in self._lines or line.process not in range(1, self.count):
        line.send({'refused': f'there is another process {line.process} already; each needs its '
                              f'own number, 0 to {self.count - 1}'})
      else:
        self._lines[line.process] = line
      self._changed.notify_all()

  def _call(self, host: str, port: int) -> wire.Line:
    """A line to process 0; tries until that is there, and all others too."""
    deadline = time.monotonic() + self._wait
    hello = {'process': self.index, 'host': socket.gethostname(), 'facts': self._facts}
    while (left := deadline - time.monotonic()) > 0:
      try:
        end = socket.create_connection((host, port), timeout=min(left, 5))
        end.sendall(_HELLO)
      except OSError:
        time.sleep(min(left, 0.5))
        continue
      line = wire.Line(end, 0, self._address)
      line.send(hello)
      line.patience(max(0.1, deadline - time.monotonic()))
      answer = line.read() or {}
      if 'refused' in answer:
        raise (NotTogether if answer.get('late') else UserError)(answer['refused'])
      if 'welcome' in answer:
        line.patience(None)
        return line
      time.sleep(0.5)
    raise NotTogether(f'process 0 cannot be reached at {self._address}, or not all {self.count} '
                      f'processes came there, within {self._wait:g} s; check that address, and '
                      'that every process was started')

  # Together.

  def _read(self, line: wire.Line) -> None:
    while (message := line.read()) is not None:
      if 'value' in message:
        self._take(message, line.process)
      elif 'values' in message:
        with self._changed:
          self._values[message['round']] = dict(enumerate(message['values']))
          self._over = self._over or message['last']
          self._changed.notify_all()
      elif 'bye' in message:
        self._follow(line, message)
      elif 'gone' in message:
        self._end(message['gone'])
    if not line.left:
      self._lost(line, 'has ended without a word')

  def _take(self, message: dict[str, Any], process: int) -> None:
    """A value of `gather` has come to process 0; the last one completes the round."""
    with self._changed:
      number = message['round']
      values = self._values.setdefault(number, {})
      values[process] = message['value']
      if len(values) == self.count:
        # Before it is sent: whoever has read it may be gone in no time.
        self._over = self._over or message['last']
        for line in self._lines.values():
          line.send({'round': number, 'values': [values[i] for i in range(self.count)],
                     'last': message['last']})
        self._changed.notify_all()

  def _follow(self, line: wire.Line, message: dict[str, Any]) -> None:
    """Another process ends; this one does so too, unless it has its own reason by then."""
    line.left = line.left or line.process == message['bye']
    for other in self._lines.values():
      if self.index == 0 and other is not line:
        other.send(message)
    timer = threading.Timer(GRACE, self._end, [
        f'process {message["bye"]} of {self.count} has stopped ({message["reason"]})'])
    timer.daemon = True
    timer.start()

  def _tick(self) -> None:
    while True:
      time.sleep(self._interval)
      for line in self._lines.values():
        line.send({})
        if line.silence() > self._heartbeat and not line.left:
          self._lost(line, f'has been silent for {self._heartbeat:g} s')

  def _lost(self, line: wire.Line, what: str) -> None:
    sentence = f'process {line.process} of {self.count} ({line.name}) {what}'
    for other in self._lines.values():
      if not self._over and other is not line:
        other.send({'gone': sentence})
    self._end(sentence)

  def _end(self, sentence: str) -> None:
    """Ends this process from any thread, in the middle of anything; does nothing when all is over.

    os._exit, because an ordinary end would wait: for the main thread, which may be inside of a
    collective that never ends, and for the other processes in JAX's shutdown.
    """
    with self._changed:        # only one thread says it
      if self._over:
        return
      flush = threading.Thread(target=sys.stdout.flush, daemon=True)
      flush.start()
      flush.join(1.0)          # the main thread may hold the lock of stdout for ever
      os.write(_STDERR, f'{self._begin}{sentence}, so this process ends too (code {PEER_IS_GONE}); '
               'the same command on every host resumes from the last checkpoint\n'.encode())
      os._exit(PEER_IS_GONE)


def _tunnel(host: str, port: int) -> int:
  """A loopback port from which connections go on to process 0, and stay open when that is gone."""
  door = socket.create_server(('127.0.0.1', 0))

  def go_on(near: socket.socket) -> None:
    try:
      wire.relay(near, socket.create_connection((host, port), timeout=None), hold=True)
    except OSError:
      near.close()

  wire.accept(door, go_on)
  return door.getsockname()[1]
