"""Speedrun: what a config learns in a fixed budget of processor time.

  python -m benchmarks.speedrun --config configs/swift_emoji64.py --out runs/speedrun/swift \\
      --minutes 10 --idea "the method as it is" [--config.KEY=VALUE ...]

Trains the config in a process of its own until that has spent the budget, as user and system time,
so that a busy machine changes little. The clock starts when the step is compiled: reading data and
weights and compiling are reported, not counted. Then `xmc evaluate` measures what no loss has seen,
and a line is added to OUT/../speedrun.jsonl; OUT/sheet.png shows the same 24 captions every time.
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np

from xmc_jax.data import source as sources
from xmc_jax.describe import describe
from xmc_jax.sampling import TextToImage
from xmc_jax.utils import image_io

SHEET = 24    # captions of the sheet: two thirds of training, one third held out
SCORES = {'FD-lite0': 'fd', 'KID-lite0': 'kid', 'alignment-16': 'alignment',
          'objects: objects': 'objects', 'objects: precision': 'precision',
          'objects: counts': 'counts'}
TICKS = os.sysconf('SC_CLK_TCK')
# glibc keeps what is freed, instead of mapping and clearing the temporaries of every step anew.
KEEP_MEMORY = {'MALLOC_MMAP_MAX_': '0', 'MALLOC_TRIM_THRESHOLD_': str(2 ** 34),
               'MALLOC_TOP_PAD_': str(2 ** 28), 'MALLOC_ARENA_MAX': '1'}


def spent(pid: int) -> float:
  """Seconds of processor time, user and system, that a process has used in all its threads."""
  fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
  return (int(fields[11]) + int(fields[12])) / TICKS


def train(command: list[str], minutes: float, log: pathlib.Path) -> dict[str, float]:
  """Runs `command` and stops it at its budget; what it cost before and after it was compiled."""
  environment = {**KEEP_MEMORY, **os.environ, 'PYTHONUNBUFFERED': '1'}
  process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             env=environment)
  start: list[float] = []

  def read():
    with log.open('w') as file:
      for line in process.stdout:
        print(line, end='', file=file, flush=True)
        if line.startswith('compiled in'):
          start.append(spent(process.pid))

  reader = threading.Thread(target=read, daemon=True)
  reader.start()
  used = 0.0
  while process.poll() is None:
    time.sleep(1)
    try:
      used = spent(process.pid)
    except (OSError, IndexError):
      break
    if start and used - start[0] >= 60 * minutes:
      process.send_signal(signal.SIGTERM)
      process.wait()
  reader.join()
  if process.returncode or not start:
    raise SystemExit(f'the training failed, see {log}')
  return {'core_minutes': (used - start[0]) / 60, 'setup_core_minutes': start[0] / 60}


def sheet(model: TextToImage) -> np.ndarray:
  """24 captions, the first of evenly spaced images, with the noise of seed 0."""
  config, captions = model.config, []
  for split, count in (('train', 2 * SHEET // 3), ('heldout', SHEET // 3)):
    source = sources.load(config.data.name, split, config.model.size, **config.data.options)
    captions += [source.captions(int(i))[0] for i in
                 np.linspace(0, min(len(source), 2000) - 1, count)]
  return image_io.grid(model.generate(captions, seed=0), captions, columns=8)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--config', required=True)
  parser.add_argument('--out', required=True, type=pathlib.Path)
  parser.add_argument('--minutes', type=float, default=60)
  parser.add_argument('--idea', default='')
  own, settings = parser.parse_known_args()
  if (own.out / 'checkpoints').exists():
    parser.error(f'--out={own.out}: there is a run already, whose steps would count and whose time '
                 'would not; give another folder')
  own.out.mkdir(parents=True, exist_ok=True)
  xmc = [sys.executable, '-m', 'xmc_jax']
  cost = train([*xmc, 'train', '--config', own.config, '--workdir', str(own.out), *settings],
               own.minutes, own.out / 'train.log')
  subprocess.run([*xmc, 'evaluate', '--workdir', str(own.out)], check=True,
                 stdout=subprocess.DEVNULL)
  model = TextToImage.load(own.out)
  image_io.save_png(own.out / 'sheet.png', sheet(model))
  lines = [json.loads(line) for line in (own.out / 'scores.jsonl').read_text().splitlines()]
  scores = {SCORES[line['metric']]: line['value'] for line in lines
            if line['metric'] in SCORES and line['step'] == model.step}
  flops = describe(model.config)['step']['flops']
  result = {
    'idea': own.idea,
    'config': own.config,
    'settings': settings,
    'data': model.config.data.name,
    'seed': model.config.seed,
    'steps': model.step,
    'batch_size': model.config.batch_size,
    'gflop_step': flops and flops / 1e9,
    **cost,
    **scores,
  }
  with (own.out.parent / 'speedrun.jsonl').open('a') as file:
    print(json.dumps(result), file=file)
  print(json.dumps(result))


if __name__ == '__main__':
  main()
