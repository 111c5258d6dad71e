"""Cuts the power of a training run at random moments and resumes it each time.

  sudo python tools/power_cut.py --cuts 16

A tiny run writes to an ext4 file system inside an image file. A cut is a copy of that image: what
the kernel has not written yet is missing from it, as after a power cut. Each copy is mounted, which
replays its journal, and the same command resumes the run there. A cut is survived if the run
resumes from the newest checkpoint that had its final name before the copy (or a newer one), and if
the metrics of every step, before and after, equal those of a run that was never interrupted.

Needs Linux, root (to mount), e2fsprogs, and the packages of the extra `test`.
"""
from __future__ import annotations

import argparse
import contextlib
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tests'))
MEGABYTES = 256
STEPS, MORE = 4000, 3                # of the run that is cut; of a resumed one
NOT_COMPARED = ('time', 'images_per_second', 'seconds_per_step', 'waiting_for_data')


def run(*command: str | pathlib.Path) -> None:
  subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def mounted(image: pathlib.Path, at: pathlib.Path):
  at.mkdir(exist_ok=True)
  run('mount', '-o', 'loop', image, at)
  try:
    yield at
  finally:
    run('umount', at)


def steps(workdir: pathlib.Path) -> list[int]:
  """Steps of the checkpoints that have their final names."""
  folder = workdir / 'checkpoints'
  names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
  return sorted(int(name) for name in names if name.isdigit())


def values(workdir: pathlib.Path) -> dict[int, dict[str, float]]:
  """The metrics of a run by step, without times."""
  from xmc_jax.utils import json_lines
  return {line['step']: {k: v for k, v in line.items() if k not in NOT_COMPARED}
          for line in json_lines.read(workdir / 'metrics.jsonl')}


def main() -> int:
  import tiny
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--cuts', type=int, default=16)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  moments = random.Random(args.seed)
  folder = pathlib.Path(tempfile.mkdtemp(prefix='power_cut_'))
  encoder = tiny.write_encoder(folder / 'encoder')
  argv = lambda workdir, steps: tiny.train_argv(
      workdir, encoder, steps=steps, every__save=2, every__report=1, every__images=10 ** 6,
      keep=3, data__loader='arrays')

  # Cut.
  image, mount, copies = folder / 'disk.img', folder / 'disk', []
  run('truncate', '-s', f'{MEGABYTES}M', image)
  run('mkfs.ext4', '-q', image)
  with mounted(image, mount):
    process = tiny.start(argv(mount / 'run', STEPS))
    while not steps(mount / 'run'):
      if process.poll() is not None:
        print(process.stdout.read())
        return 1
      time.sleep(0.1)
    for i in range(args.cuts):
      time.sleep(moments.uniform(0.2, 4))
      process.send_signal(signal.SIGSTOP)      # the copy shall be of one moment
      durable = max(steps(mount / 'run'))
      shutil.copyfile(image, folder / f'cut_{i}.img')
      process.send_signal(signal.SIGCONT)
      copies.append((folder / f'cut_{i}.img', durable))
    process.kill()
    process.communicate()

  # Resume. The run without interruptions is as long as the longest of them.
  last = max(durable for _, durable in copies) + 8 + MORE
  whole = tiny.start(argv(folder / 'whole', last))
  whole.communicate()
  expected = values(folder / 'whole')
  lost = 0
  for copy, durable in copies:
    with mounted(copy, folder / 'cut'):
      before = steps(folder / 'cut' / 'run')
      newest = before[-1] if before else 0
      resumed = tiny.start(argv(folder / 'cut' / 'run', newest + MORE))
      output, _ = resumed.communicate()
      found = values(folder / 'cut' / 'run') if resumed.returncode == 0 else {}
      after = [step for step in found if step > newest]
      # The lines before the cut have to be there too, and those after it to be the same.
      equal = bool(after) and found == {step: expected[step] for step in range(1, max(found) + 1)}
      start = next((line for line in output.splitlines() if 'steps' in line and ' to ' in line), '')
      ok = resumed.returncode == 0 and newest >= durable and 'is damaged' not in output and equal
      lost += not ok
      print(f'{copy.stem}: durable {durable}, found {before}, code {resumed.returncode}, '
            f'{len(after)} steps after it {"equal" if equal else "DIFFER"}: {start.strip()}'
            f'{"" if ok else "   LOST"}', flush=True)
      if not ok:
        print(output)
    copy.unlink()
  print(f'{len(copies)} cuts, {lost} lost')
  shutil.rmtree(folder, ignore_errors=True)
  return int(lost > 0)


if __name__ == '__main__':
  sys.exit(main())
