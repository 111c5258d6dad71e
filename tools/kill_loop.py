"""Kills a training run at random moments and resumes it each time by the same command.

  python tools/kill_loop.py --kills 30

A tiny run is killed by SIGKILL, in half of the cases at any moment after its start, in the others
after it has trained for a while. The loop is passed if every start resumes from a checkpoint that
is not older than the newest one that was there, calls none damaged, and if every line of metrics
that was ever written equals that of a run that was never interrupted.

Needs the packages of the extra `test`.
"""
from __future__ import annotations

import argparse
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time

from power_cut import MORE, steps, values  # beside this file; finds tests/tiny.py

START = 12      # seconds within which a run is killed whose steps are not waited for


def main() -> int:
  import tiny
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--kills', type=int, default=30)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  moments = random.Random(args.seed)
  folder = pathlib.Path(tempfile.mkdtemp(prefix='kill_loop_'))
  encoder, workdir = tiny.write_encoder(folder / 'encoder'), folder / 'run'
  argv = lambda workdir, steps: tiny.train_argv(
      workdir, encoder, steps=steps, every__save=2, every__report=1, every__images=5, keep=3,
      data__loader='arrays')

  lost, seen = 0, []
  for i in range(args.kills):
    before = max(steps(workdir), default=0)
    process, output, trains = tiny.start(argv(workdir, 10 ** 6)), [], threading.Event()

    def read(process=process, output=output, trains=trains):
      for line in process.stdout:
        output.append(line)
        if line.startswith('step '):
          trains.set()
    reader = threading.Thread(target=read)
    reader.start()
    if i % 2:
      trains.wait(timeout=300)
    time.sleep(moments.uniform(0, 3 if i % 2 else START))
    process.kill()
    process.wait()
    reader.join()
    text, found, newest = ''.join(output), values(workdir), max(steps(workdir), default=0)
    seen.append(found)
    ok = (process.returncode == -9 and newest >= before and 'damaged' not in text
          and (not trains.is_set() or f'steps {before + 1:,} to ' in text))
    lost += not ok
    print(f'kill {i}: began with step {before + 1}, {"" if trains.is_set() else "not "}training '
          f'yet, {len(found)} lines of metrics, newest checkpoint {newest}'
          f'{"" if ok else f"   LOST{chr(10)}{text}"}', flush=True)

  last = max([*steps(workdir), *(step for found in seen for step in found)]) + MORE
  for end in workdir, folder / 'whole':
    process = tiny.start(argv(end, last))
    output, _ = process.communicate()
    assert process.returncode == 0, output
  expected = values(folder / 'whole')
  seen.append(values(workdir))
  differing = sum(line != expected[step] for found in seen for step, line in found.items())
  complete = seen[-1].keys() == expected.keys()
  print(f'{args.kills} kills, {lost} lost; {sum(map(len, seen))} lines of metrics compared, '
        f'{differing} differ; {last} steps{"" if complete else ", some are MISSING"}')
  shutil.rmtree(folder, ignore_errors=True)
  return int(lost > 0 or differing > 0 or not complete)


if __name__ == '__main__':
  sys.exit(main())
