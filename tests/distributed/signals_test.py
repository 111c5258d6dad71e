"""Signals become a flag, and the handlers of before come back."""
import concurrent.futures
import os
import signal

import pytest

from xmc_jax.distributed.signals import StopSignal


def send(number):
  os.kill(os.getpid(), number)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_flag(number, capfd):
  with StopSignal() as stop:
    assert not stop.requested
    send(number)
    assert stop.requested
  assert 'stopping after this step' in capfd.readouterr().err


def test_second_interrupt_raises_at_once():
  with pytest.raises(KeyboardInterrupt):
    with StopSignal() as stop:
      send(signal.SIGINT)
      assert stop.requested
      send(signal.SIGINT)


def test_terminations_never_raise():
  with StopSignal() as stop:
    send(signal.SIGTERM)
    send(signal.SIGTERM)
    send(signal.SIGINT)
    assert stop.requested


def test_in_another_thread_nothing_is_requested():
  def requested():
    with StopSignal() as stop:
      return stop.requested
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    assert pool.submit(requested).result() is False


def test_handlers_come_back_also_after_an_error():
  seen = []
  before = signal.signal(signal.SIGTERM, lambda *_: seen.append('old'))
  try:
    interrupt = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
      with StopSignal() as stop:
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is interrupt
    send(signal.SIGTERM)
    assert seen == ['old'] and not stop.requested
  finally:
    signal.signal(signal.SIGTERM, before)
