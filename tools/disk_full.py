"""Fills the disk of a training run at random moments, makes room, and resumes it each time.

  sudo python tools/disk_full.py --trials 16

A tiny run writes to a small ext4 file system inside an image file, and so does its standard output
in every fourth trial. The disk is filled up to a few random kilobytes, before the start or at a
random moment, so that any kind of write may be the one that fails: a checkpoint, metrics, scores,
images, TensorBoard's files, config.json. A trial is passed if the run ends with exit code 2, one
sentence and no traceback, and, after room was made, the same command resumes it and the metrics of
every step equal those of a run that was never interrupted.

Needs Linux, root (to mount), e2fsprogs, and the packages of the extra `test`.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

from power_cut import mounted, run, steps, values  # beside this file; finds tests/tiny.py

MEGABYTES, SMALLEST = 48, 6
MORE = 6
ENVIRONMENT = dict(os.environ)      # before JAX is imported, which lets TensorFlow say more
COMMAND = [sys.executable, '-m', 'xmc_jax']


def fill(folder: pathlib.Path, free: int) -> pathlib.Path:
  """Writes a file that leaves about `free` bytes of the disk."""
  path = folder / 'filler'
  left = lambda: os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - free
  with open(path, 'wb', buffering=0) as file, contextlib.suppress(OSError):
    while (size := left()) > 0:      # the run may take the last bytes first
      file.write(bytes(min(size, 1 << 20)))
  return path


def main() -> int:
  import tiny
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--trials', type=int, default=16)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  chance = random.Random(args.seed)
  folder = pathlib.Path(tempfile.mkdtemp(prefix='disk_full_'))
  encoder = tiny.write_encoder(folder / 'encoder')
  argv = lambda workdir, steps: tiny.train_argv(
      workdir, encoder, steps=steps, every__save=2, every__report=1, every__images=3, keep=3,
      data__loader='arrays')

  image, failed, longest, trials = folder / 'disk.img', 0, 0, []
  for trial in range(args.trials):
    image.unlink(missing_ok=True)
    run('truncate', '-s', f'{MEGABYTES}M', image)
    run('mkfs.ext4', '-q', '-m', '0', image)
    with mounted(image, folder / 'disk') as disk:
      workdir = disk / 'run'
      free = chance.choice([0, 4, 16, 64, 256, 1024]) * 1024
      first = subprocess.run([*COMMAND, *argv(workdir, SMALLEST)[1:]], cwd=tiny.ROOT,
                             env=ENVIRONMENT, capture_output=True, text=True)
      assert first.returncode == 0, first.stderr
      before = trial % 2 and fill(disk, free)
      output = disk / 'output' if trial % 4 == 3 else folder / 'output'
      with open(output, 'w') as stdout:
        process = subprocess.Popen([*COMMAND, *argv(workdir, 10 ** 6)[1:]], cwd=tiny.ROOT,
                                   env=ENVIRONMENT, stdout=stdout, stderr=subprocess.PIPE,
                                   text=True)
        if not before:
          while max(values(workdir)) < SMALLEST + 2 and process.poll() is None:
            time.sleep(0.1)
          time.sleep(chance.uniform(0, 3))
          before = fill(disk, free)
        try:
          _, told = process.communicate(timeout=600)
        finally:
          process.kill()
      before.unlink()
      output.unlink()
      newest = steps(workdir)[-1]
      again = subprocess.run([*COMMAND, *argv(workdir, newest + MORE)[1:]], cwd=tiny.ROOT,
                             env=ENVIRONMENT, capture_output=True, text=True)
      found = values(workdir) if again.returncode == 0 else {}
      sentences = [line for line in told.splitlines() if line.startswith('xmc: ')]
      ok = (process.returncode == 2 and len(sentences) == 1 and 'Traceback' not in told
            and len(told.splitlines()) == 1 and again.returncode == 0)
      longest = max(longest, newest + MORE)
      trials.append((trial, ok, found))
      print(f'trial {trial}, {free:,} bytes free: code {process.returncode}, resumed from {newest} '
            f'with code {again.returncode}: {told if not ok else told[-400:].strip()}'
            f'{again.stderr.strip()}', flush=True)

  whole = subprocess.run([*COMMAND, *argv(folder / 'whole', longest)[1:]], cwd=tiny.ROOT,
                         capture_output=True, text=True)
  assert whole.returncode == 0, whole.stderr
  expected = values(folder / 'whole')
  for trial, ok, found in trials:
    equal = bool(found) and found == {step: expected[step] for step in range(1, max(found) + 1)}
    if not (ok and equal):
      failed += 1
      print(f'trial {trial} FAILED{"" if equal else ": its metrics differ"}')
  print(f'{args.trials} trials, {failed} failed')
  shutil.rmtree(folder, ignore_errors=True)
  return int(failed > 0)


if __name__ == '__main__':
  sys.exit(main())
