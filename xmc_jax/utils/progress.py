"""Progress of long work on the terminal, with an estimate of the remaining time."""
from __future__ import annotations

import time

EVERY = 10.0  # seconds between two lines


def duration(seconds: float) -> str:
  """Formats a duration as '34 s', '12 min', '2 h 14 min' or '3 d 4 h'."""
  minutes = round(seconds / 60)
  if seconds < 100:
    return f'{seconds:.0f} s'
  if minutes < 60:
    return f'{minutes} min'
  hours = minutes // 60
  return f'{hours} h {minutes % 60} min' if hours < 48 else f'{hours // 24} d {hours % 24} h'


class Progress:
  """Prints 'WHAT 320/1,000  12.5/s  left 54 s' at most every ten seconds; nothing if `quiet`.

  The first call of `reach` starts the clock, so the rate does not include compilation.
  """

  def __init__(self, what: str, total: int, *, quiet: bool = False):
    self._what, self._total, self._quiet = what, total, quiet
    self._first: tuple[float, int] | None = None
    self._printed = time.perf_counter()

  def reach(self, done: int) -> None:
    """Reports that `done` of the total are done."""
    now = time.perf_counter()
    if self._first is None:
      self._first = now, done
    if self._quiet or done == self._first[1] or now - self._printed < EVERY:
      return
    self._printed = now
    rate = (done - self._first[1]) / (now - self._first[0])
    print(f'{self._what} {done:,}/{self._total:,}  {rate:.3g}/s  '
          f'left {duration((self._total - done) / rate)}', flush=True)
