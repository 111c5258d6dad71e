"""Runs `xmc` on malformed inputs: no traceback, no hang, a refusal is one sentence and code 2.

  python tools/fuzz.py --cases 500 [--seed 0] [--kinds images,flags] [--keep FOLDER]

Each case takes a good input, damages one file of it (or one flag), and runs one command on it. A
case passes if the command ends within three minutes with code 0, or with code 2 and one line on
stderr that begins with `xmc`. A sample from a damaged run must also be the same image as before, or
be refused. What was accepted is listed at the end, to be read by a person.

The commands run in a process of their own, one after the other, so that the packages are imported
once. Needs the packages of the extra `test`.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import io
import json
import os
import pathlib
import pickle
import selectors
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from random import Random

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from malformed import KINDS, ROOT, Case, good_inputs, sample_argv

SECONDS = 180


class Worker:
  """A process that runs one command after the other; a new one after a hang or a crash."""

  def __init__(self) -> None:
    self._process: subprocess.Popen | None = None

  def __call__(self, argv: Sequence[str]) -> tuple[int, str]:
    """(code, stderr); code -1 for a hang, -2 for a crash."""
    if self._process is None or self._process.poll() is not None:
      light = {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'JAX_PLATFORMS': 'cpu',
               'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
      self._process = subprocess.Popen(
          [sys.executable, __file__, '--worker'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
          env=os.environ | light, cwd=ROOT)
    process = self._process
    pickle.dump(list(argv), process.stdin)
    process.stdin.flush()
    with selectors.DefaultSelector() as selector:
      selector.register(process.stdout, selectors.EVENT_READ)
      if not selector.select(SECONDS * 2):
        self.close()
        return -1, f'no end within {SECONDS * 2} seconds'
    line = process.stdout.readline()
    if not line:
      process.wait()
      return -2, f'the process ended with code {process.returncode}'
    code, error = json.loads(line)
    return code, error

  def close(self) -> None:
    if self._process is not None:
      self._process.kill()
      self._process.wait()
      self._process = None


def work() -> None:
  """Runs the commands that come on stdin and writes (code, stderr) of each to stdout."""
  import signal

  from xmc_jax.cli.main import main
  answers = os.fdopen(os.dup(1), 'w')

  def stop(*_):
    raise TimeoutError(f'no end within {SECONDS} seconds')
  signal.signal(signal.SIGALRM, stop)
  while True:
    try:
      argv = pickle.load(sys.stdin.buffer)
    except EOFError:
      return
    with tempfile.TemporaryFile('w+', errors='replace') as error, open(os.devnull, 'w') as nothing:
      os.dup2(nothing.fileno(), 1)
      kept = os.dup(2)
      os.dup2(error.fileno(), 2)
      code = -1
      try:
        with contextlib.redirect_stderr(io.TextIOWrapper(os.fdopen(os.dup(2), 'wb', 0),
                                                         write_through=True)):
          signal.alarm(SECONDS)
          try:
            code = main(argv)
          except BaseException:                   # what a user would see as a traceback
            import traceback
            traceback.print_exc()
          finally:
            signal.alarm(0)
      finally:
        os.dup2(kept, 2)
        os.close(kept)
      error.seek(0)
      print(json.dumps([code, error.read()]), file=answers, flush=True)


def verdict(case: Case, code: int, error: str, expected: str) -> str:
  """'' if all is well, else what is wrong."""
  if code not in (0, 2):
    return f'code {code}'
  if 'Traceback' in error:
    return 'traceback'
  if code == 2 and not (error.startswith('xmc') and error.strip().count('\n') == 0):
    return 'no single sentence'
  if code == 0 and case.image is not None and digest(case.image) != expected:
    return 'another image'
  return ''


def digest(path: pathlib.Path) -> str:
  return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else 'none'


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--cases', type=int, default=500)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--kinds', default=','.join(KINDS), type=lambda text: text.split(','))
  parser.add_argument('--keep', type=pathlib.Path, help='keep the inputs of failures here')
  parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.worker:
    work()
    return 0
  folder = pathlib.Path(tempfile.mkdtemp(prefix='fuzz_'))
  failures, accepted, refused = run(folder, args.cases, args.seed, args.kinds, args.keep)
  print('\naccepted:\n  ' + '\n  '.join(accepted))
  print(f'\n{args.cases} cases: {sum(refused.values())} refused, {len(accepted)} accepted, '
        f'{failures} wrong')
  shutil.rmtree(folder)
  return int(failures > 0)


def run(folder: pathlib.Path, cases: int, seed: int, kinds: Sequence[str],
        keep: pathlib.Path | None = None) -> tuple[int, list[str], collections.Counter]:
  """(number of failures, names of accepted cases, refusals by kind)."""
  worker = Worker()
  good = good_inputs(folder / 'good', worker)
  control = Case('control', sample_argv(good.run, folder, '--caption=a red apple'),
                 folder / 'out' / '000_a_red_apple_0.png')
  assert worker(control.argv)[0] == 0
  expected = digest(control.image)
  failures, accepted, refused = 0, [], collections.Counter()
  for i in range(cases):
    kind = kinds[i % len(kinds)]
    place = folder / 'case'
    place.mkdir()
    case = KINDS[kind](good, place, Random(f'{seed} {kind} {i}'))
    code, error = worker(case.argv)
    wrong = verdict(case, code, error, expected)
    if wrong:
      failures += 1
      print(f'{i} {kind}: {case.name}\n  WRONG, {wrong}: {error.strip()[-1500:]}\n'
            f'  {" ".join(case.argv)}', flush=True)
      if keep:
        shutil.copytree(place, keep / str(i), symlinks=True, ignore=_fifos)
    elif code:
      refused[kind] += 1
      print(f'{i} {kind}: {case.name}\n  {error.strip()}', flush=True)
    else:
      accepted.append(f'{i} {kind}: {case.name}')
    shutil.rmtree(place)
  worker.close()
  return failures, accepted, refused


def _fifos(folder: str, names: list[str]) -> list[str]:
  return [name for name in names if pathlib.Path(folder, name).is_fifo()]


if __name__ == '__main__':
  sys.exit(main())
