"""Processes that meet, agree, and end when one of them has gone; without any program of JAX's."""
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
import tiny

from xmc_jax.distributed import peers as peers_module
from xmc_jax.distributed import wire
from xmc_jax.distributed.peers import PEER_IS_GONE, NotTogether, Peers
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow

# A process that meets the others, says so, and then does nothing until told how to end.
CHILD = """
import sys
from xmc_jax.distributed.peers import Peers
address, count, index, heartbeat = sys.argv[1:]
peers = Peers(address, int(count), int(index), heartbeat=float(heartbeat), wait=60, facts={})
print(peers.gather(int(index)), flush=True)
order = sys.stdin.readline().strip()
if order == 'finish':
  peers.gather(None, last=True)
  peers.close()
elif order:
  peers.leave(order)
  sys.exit(3)
"""


@pytest.fixture
def address(monkeypatch):
  monkeypatch.setattr(peers_module, 'GRACE', 0.5)
  return f'127.0.0.1:{wire.free_port()}'


def meet(address, count, facts=None, wait=20.0):
  """All processes of a run in threads of this one: each Peers, or the error in its place."""
  found = [None] * count

  def join(index):
    try:
      found[index] = Peers(address, count, index, heartbeat=60, wait=wait,
                           facts=(facts or [{}] * count)[index])
    except UserError as error:
      found[index] = error
  threads = [threading.Thread(target=join, args=[i]) for i in range(count)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  return found


def in_threads(calls):
  results = [None] * len(calls)
  def run(i):
    results[i] = calls[i]()
  threads = [threading.Thread(target=run, args=[i]) for i in range(len(calls))]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  return results


@contextlib.contextmanager
def children(address, count, heartbeat):
  """Processes that have met."""
  started = [subprocess.Popen(
      [sys.executable, '-c', CHILD, address, str(count), str(i), str(heartbeat)], cwd=tiny.ROOT,
      text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
      for i in range(count)]
  try:
    for child in started:
      assert child.stdout.readline() == f'{list(range(count))}\n'
    yield started
  finally:
    for child in started:
      child.kill()
      child.communicate()


def tell(child, order):
  child.stdin.write(f'{order}\n')
  child.stdin.flush()


def end_of(child):
  """Its exit code and what it wrote to stderr."""
  return child.wait(timeout=60), child.stderr.read()


def test_values_are_gathered_in_the_order_of_the_processes_again_and_again(address):
  peers = meet(address, 3)
  for turn in range(3):
    values = in_threads([lambda p=p: p.gather({'turn': turn, 'of': p.index}) for p in peers])
    assert values == [[{'turn': turn, 'of': i} for i in range(3)]] * 3
  assert in_threads([lambda p=p: p.gather(None, last=True) for p in peers]) == [[None] * 3] * 3
  in_threads([p.close for p in peers])


def test_one_that_differs_is_named_to_all(address):
  found = meet(address, 3, [{'the version': '1'}, {'the version': '2'}, {'the version': '1'}])
  for error in found:
    assert isinstance(error, UserError), error
    assert 'the version is 2 on process 1' in str(error) and '1 on process 0' in str(error)


def test_those_who_do_not_come_are_named(address):
  with pytest.raises(NotTogether, match=rf'after 0.2 s there is nothing of process 1, 2 of 3 at '
                                      rf'{address}'):
    Peers(address, 3, 0, heartbeat=60, wait=0.2, facts={})

def test_process_0_that_does_not_come_is_named(address):
  with pytest.raises(NotTogether, match=f'process 0 cannot be reached at {address}, .* 0.2 s'):
    Peers(address, 3, 1, heartbeat=60, wait=0.2, facts={})


def test_a_port_that_is_taken_is_the_users_mistake(address):
  host, port = wire.split_address(address)
  with socket.create_server((host, port)), pytest.raises(UserError, match=f'listen at {address}'):
    Peers(address, 2, 0, heartbeat=60, wait=1, facts={})


def test_a_second_process_of_the_same_number_is_sent_away(address):
  peers = meet(address, 2)
  with pytest.raises(UserError, match='another process 1 already'):
    Peers(address, 2, 1, heartbeat=60, wait=5, facts={})
  assert in_threads([lambda p=p: p.gather(p.index) for p in peers]) == [[0, 1]] * 2


@pytest.mark.parametrize('said', [b'', b'GET / HTTP/1.1\r\n\r\n', b'XMC not JSON\n', b'XMC 3\n',
                                  b'XMC {"process": [1]}\n', b'XMC {"facts": 1}\n',
                                  b'XMC ' + b'x' * (1 << 21)])
def test_strangers_do_no_harm(address, said):
  peers = meet(address, 2)
  with socket.create_connection(wire.split_address(address)) as stranger:
    with contextlib.suppress(OSError):
      stranger.sendall(said)
      stranger.shutdown(socket.SHUT_WR)
      stranger.settimeout(10)
      stranger.recv(1 << 16)
  assert in_threads([lambda p=p: p.gather(p.index) for p in peers]) == [[0, 1]] * 2


def test_the_service_of_process_0_is_reached_through_the_one_port(address):
  peers = meet(address, 2)
  with socket.create_server(('127.0.0.1', peers[0].service_port)) as service:
    call = socket.create_connection(wire.split_address(peers[1].service))
    call.sendall(b'PRI * HTTP/2.0')
    answer, _ = service.accept()
    assert answer.recv(14, socket.MSG_WAITALL) == b'PRI * HTTP/2.0'
    answer.sendall(b'yes')
    assert call.recv(3, socket.MSG_WAITALL) == b'yes'
    answer.close()
    call.settimeout(0.5)               # that the far end has closed is not told, see peers.py
    with pytest.raises(TimeoutError):
      call.recv(1)


@pytest.mark.parametrize('victim, how, heartbeat, words', [
    (0, signal.SIGKILL, 60, 'has ended without a word'), (0, signal.SIGSTOP, 2, 'silent for 2 s'),
    (1, signal.SIGKILL, 60, 'has ended without a word'), (2, signal.SIGSTOP, 2, 'silent for 2 s')])
def test_all_end_when_one_is_dead_or_silent(address, victim, how, heartbeat, words):
  with children(address, 3, heartbeat) as started:
    started[victim].send_signal(how)
    for child in started[:victim] + started[victim + 1:]:
      code, error = end_of(child)
      assert code == PEER_IS_GONE
      assert error.startswith(f'process {victim} of 3 (') and words in error
      assert 'the same command on every host resumes' in error and error.count('\n') == 1


def test_all_follow_one_that_leaves_and_say_why_unless_they_have_their_own_reason(address):
  with children(address, 3, heartbeat=60) as started:
    tell(started[0], 'the disk is full')
    tell(started[2], 'the disk is full too')
    assert end_of(started[0]) == (3, '') and end_of(started[2]) == (3, '')
    code, error = end_of(started[1])
    assert code == PEER_IS_GONE
    assert error.startswith('process 0 of 3 has stopped (the disk is full), so') or (
        error.startswith('process 2 of 3 has stopped (the disk is full too), so'))


def test_nobody_is_missed_after_the_end(address):
  with children(address, 3, heartbeat=60) as started:
    for child in started:
      tell(child, 'finish')
    assert [end_of(child) for child in started] == [(0, '')] * 3


@pytest.mark.parametrize('address', ['host', ':1', 'host:', 'host:x', 'host:0', 'host:65536'])
def test_an_address_that_is_none_is_the_users_mistake(address):
  with pytest.raises(UserError, match='HOST:PORT'):
    wire.split_address(address)


def test_addresses():
  assert wire.split_address('node-1.cluster:8476') == ('node-1.cluster', 8476)
  assert wire.split_address('[fe80::1]:1') == ('fe80::1', 1)
  assert os.EX_TEMPFAIL == PEER_IS_GONE
