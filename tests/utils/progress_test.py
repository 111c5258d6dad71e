import pytest

from xmc_jax.utils import progress
from xmc_jax.utils.progress import Progress, duration


@pytest.mark.parametrize('seconds, words', [
    (34.2, '34 s'), (720, '12 min'), (8040, '2 h 14 min'), (3599, '1 h 0 min'),
    (273600, '3 d 4 h')])
def test_duration(seconds, words):
  assert duration(seconds) == words


def test_progress_tells_the_rate_after_the_first_call_and_the_time_left(monkeypatch, capsys):
  clock = iter([0, 100, 105, 120, 121])  # the first 100 s are compiling
  monkeypatch.setattr(progress.time, 'perf_counter', lambda: next(clock))
  told = Progress('fakes', 1000)
  for done in (16, 26, 416, 426):
    told.reach(done)
  lines = capsys.readouterr().out.splitlines()
  assert lines == ['fakes 26/1,000  2/s  left 8 min', 'fakes 416/1,000  20/s  left 29 s']


def test_quiet_progress_is_silent(monkeypatch, capsys):
  clock = iter(range(0, 1000, 100))
  monkeypatch.setattr(progress.time, 'perf_counter', lambda: next(clock))
  told = Progress('fakes', 10, quiet=True)
  for done in (1, 2, 3):
    told.reach(done)
  assert not capsys.readouterr().out
