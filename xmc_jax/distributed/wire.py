"""TCP between the processes of a run: lines of JSON, and relays of somebody else's bytes."""
from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from xmc_jax.types import UserError

_LONGEST = 1 << 20             # bytes of a line; a stranger's endless one must not fill the memory


class Line:
  """One connection that carries JSON objects, a line each.

  process, name   of the other end, for messages
  left            whether the other end has said that it ends
  """

  def __init__(self, end: socket.socket, process: int, name: str):
    self.process, self.name, self.left = process, name, False
    self._end, self._sending = end, threading.Lock()
    self._unread, self._heard = b'', time.monotonic()

  def send(self, message: dict[str, Any]) -> None:
    """Sends, or does nothing where the connection is broken: whoever reads it will notice."""
    try:
      with self._sending:
        self._end.sendall(json.dumps(message).encode() + b'\n')
    except OSError:
      pass

  def read(self) -> dict[str, Any] | None:
    """The next object, or None when the connection has ended in one way or another."""
    while b'\n' not in self._unread:
      try:
        more = self._end.recv(1 << 16)
      except OSError:
        return None
      self._unread += more
      if not more or len(self._unread) > _LONGEST:
        return None
      self._heard = time.monotonic()
    line, _, self._unread = self._unread.partition(b'\n')
    try:
      message = json.loads(line)
    except ValueError:
      return None
    return message if isinstance(message, dict) else None

  def silence(self) -> float:
    """Seconds since the other end was heard."""
    return time.monotonic() - self._heard

  def patience(self, seconds: float | None) -> None:
    """How long `read` waits for the next bytes before it gives up; None is for ever."""
    self._end.settimeout(seconds)

  def finish(self) -> None:
    """Nothing more will be sent; what was sent still arrives."""
    try:
      self._end.shutdown(socket.SHUT_WR)
    except OSError:
      pass


def split_address(address: str) -> tuple[str, int]:
  """'HOST:PORT' or '[HOST]:PORT' in its two parts; UserError for anything else."""
  host, _, port = address.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 65536:
    raise UserError(f'--coordinator={address} is not HOST:PORT; give the host of process 0 and a '
                    'port that is free there, such as 10.0.0.1:8476')
  return host.strip('[]'), int(port)


def free_port() -> int:
  """A port of the loopback interface that nobody uses now."""
  with socket.create_server(('127.0.0.1', 0)) as door:
    return door.getsockname()[1]


def listen(host: str, port: int) -> socket.socket:
  """A listening socket: on loopback if `host` is that, otherwise on every interface."""
  if host == 'localhost' or host.startswith('127.'):
    return socket.create_server(('127.0.0.1', port))
  if socket.has_dualstack_ipv6():
    return socket.create_server(('', port), family=socket.AF_INET6, dualstack_ipv6=True)
  return socket.create_server(('', port))


def accept(door: socket.socket, greet: Callable[[socket.socket], None]) -> None:
  """Gives every connection that comes to `door` a thread that runs `greet`."""
  def forever():
    while True:
      spawn(greet, door.accept()[0])
  spawn(forever)


def relay(near: socket.socket, far: socket.socket, hold: bool) -> None:
  """Passes bytes in both directions until an end closes; with `hold` a far end's is not told."""
  spawn(_pump, near, far, True)
  spawn(_pump, far, near, not hold)


def spawn(work: Callable[..., None], *args: Any) -> None:
  """Runs `work` in a thread that the end of the process does not wait for."""
  threading.Thread(target=work, args=args, daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, tell: bool) -> None:
  try:
    while data := source.recv(1 << 16):
      sink.sendall(data)
  except OSError:
    pass
  if tell:
    for end in (source, sink):
      try:
        end.shutdown(socket.SHUT_RDWR)
      except OSError:
        pass
