"""All that an hour on a lent accelerator should tell, in one command of at most 25 minutes.

  python benchmarks/accelerator.py --out OUT
  python benchmarks/accelerator.py --out /tmp/rehearsal --tiny      # on a CPU, in a few minutes

Each part runs in a process of its own, with a limit, and adds lines to OUT/results.jsonl as it
goes: what is measured is never lost. The parts before `train` need no data and no weights. `train`
takes the time that is left and leaves OUT/CONFIG_metrics.jsonl, _sheet.png and
_generator.safetensors; its runs are in build/accelerator, and the same command resumes them.
benchmarks/README.md explains the keys.
"""
from __future__ import annotations

import argparse
import collections
import importlib.metadata
import json
import math
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import common
import jax
import numpy as np
import train_step
from safetensors import numpy as safetensors_numpy

from xmc_jax.cli import config_file

RUNS = pathlib.Path('build/accelerator')
BERT = {'vocab_size': 30522, 'hidden_size': 768, 'num_hidden_layers': 12, 'num_attention_heads': 12,
        'intermediate_size': 3072, 'max_position_embeddings': 512, 'type_vocab_size': 2,
        'layer_norm_eps': 1e-12, 'hidden_act': 'gelu', 'model_type': 'bert'}
SMALL_BERT = {'hidden_size': 8, 'num_hidden_layers': 1, 'num_attention_heads': 2,
              'intermediate_size': 16}
IMPLEMENTATIONS = ('fast', 'reference', 'fast,up=spread,pool=strided')
RESERVED = 300          # seconds that the other parts leave to `train`


class Rehearsal:
  """The sizes of a whole run, or of one on a CPU that only shows that everything works."""

  def __init__(self, out: pathlib.Path, tiny: bool):
    self.out, self.tiny = out, tiny
    self.sizes, self.rows = ((32,), 2) if tiny else ((256, 128, 64), 16)
    self.many = self.rows * (1 if tiny else 2)      # rows of a device, where they are not to grow
    self.steps, self.nan_steps = (2, 2) if tiny else (10, 200)
    self.trainings = ['demo'] if tiny else ['swift_emoji64', 'swift_scenes64']
    # A rehearsal compiles three programs: a step, one in float32 for `parity`, one with remat.
    self.dtypes = ('bfloat16',) if tiny else ('bfloat16', 'float32')
    self.implementations = () if tiny else IMPLEMENTATIONS

  def tell(self, **facts: Any) -> None:
    with (self.out / 'results.jsonl').open('a') as file:
      print(json.dumps(facts), file=file, flush=True)

  def config(self, **values: Any):
    """XMC-GAN's main config with a text encoder of which only the sizes are known."""
    folder = RUNS / ('tiny' if self.tiny else '') / 'text_encoder'
    folder.mkdir(parents=True, exist_ok=True)
    sizes = BERT | (SMALL_BERT if self.tiny else {})
    (folder / 'config.json').write_text(json.dumps(sizes))
    for name in ('model.safetensors', 'vocab.txt'):
      (folder / name).touch()
    # Without VGG-19, which takes most of a step of this size.
    small = {'model__width': 4, 'model__z_features': 16,
             'terms__image_frozen': 0.0} if self.tiny else {}
    return common.changed(config_file.load('xmc_gan_coco256'), text__encoder=str(folder),
                          **small | values)


def facts(plan: Rehearsal) -> Iterator[dict]:
  """What is installed, and which devices there are."""
  names = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  installed = {d.metadata['Name'] for d in importlib.metadata.distributions()}
  found = {name: importlib.metadata.version(name) for name in names if name in installed}
  if shutil.which('nvidia-smi'):
    query = '--query-gpu=name,driver_version,memory.total,power.limit'
    found['nvidia_smi'] = subprocess.run(['nvidia-smi', query, '--format=csv,noheader'],
                                         capture_output=True, text=True).stdout.strip()
  device = jax.devices()[0]
  yield {'python': platform.python_version(), **found, 'platform': device.platform,
         'device': device.device_kind, 'devices': jax.device_count(),
         'memory_bytes': device_memory().get('bytes_limit'),
         'backend': device.client.platform_version}


def device_memory() -> dict[str, int]:
  return jax.local_devices()[0].memory_stats() or {}


def measured(plan: Rehearsal, config) -> dict:
  """The line of one case; where it does not fit, one that says so."""
  line = {key: config.get(key) for key in ('batch_size',)} | {
      'impl': config.model.impl, 'px': config.model.size, 'dtype': config.model.dtype,
      'remat': config.model.get('remat')}
  try:
    case = train_step.Case(config)
    case.prepare()
    case.timed(np.array([case.run() for _ in range(plan.steps)]))
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return line | {'error': 'out of memory'}
  stats = {f'device_{key}': device_memory().get(key) for key in ('peak_bytes_in_use',
                                                                 'bytes_limit')}
  return line | case.facts | stats


def step(plan: Rehearsal, px: str, dtype: str) -> Iterator[dict]:
  """The step at one size and type, at larger and larger batch sizes until memory ends."""
  rows, line = plan.rows * jax.device_count(), {}
  while 'error' not in line:
    yield (line := measured(plan, plan.config(model__size=int(px), model__dtype=dtype,
                                              batch_size=rows)))
    if plan.tiny:
      break
    rows *= 2


def choices(plan: Rehearsal, key: str, value: str) -> Iterator[dict]:
  """One implementation, or remat, at one size.

  Each in a process of its own, whose largest use of memory is then that of the case.
  """
  px, rows = sorted(plan.sizes)[len(plan.sizes) // 2], plan.many * jax.device_count()
  yield measured(plan, plan.config(model__size=px, batch_size=rows, **{f'model__{key}': value}))


def kernels(plan: Rehearsal) -> Iterator[dict]:
  """The ten kernels that take longest in three steps."""
  config = plan.config(model__size=plan.sizes[0], batch_size=plan.rows * jax.device_count())
  case = train_step.Case(config)
  case.prepare()
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      wall = sum(case.run() for _ in range(3))
    seconds = kernel_seconds(pathlib.Path(folder))
  total = sum(seconds.values())
  for name, spent in seconds.most_common(10):
    yield {'kernel': name, 'share': round(spent / total, 4), 'seconds': round(spent / 3, 6),
           'of_wall': round(total / wall, 3)}


def kernel_seconds(folder: pathlib.Path) -> collections.Counter:
  """Seconds by the name of the kernel, of all that devices ran while `folder` was recorded."""
  seconds: collections.Counter = collections.Counter()
  for file in folder.rglob('*.xplane.pb'):
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
      device = plane.name.startswith('/device:')
      for line in plane.lines:
        if device and not line.name.startswith(('Stream', 'XLA Ops')):
          continue
        for event in line.events:
          if device or any(name == 'hlo_op' for name, _ in event.stats):
            seconds[event.name] += event.duration_ns / 1e9
  return seconds


def parity(plan: Rehearsal) -> Iterator[dict]:
  """One step in float32 on the CPU and on the accelerator, from the same numbers."""
  jax.config.update('jax_default_matmul_precision', 'highest')
  config = plan.config(model__size=32 if plan.tiny else 64, model__dtype='float32',
                       batch_size=2 if plan.tiny else 8, model__impl='fast')
  found = {}
  for name, device in (('cpu', jax.devices('cpu')[0]), ('here', jax.devices()[0])):
    with jax.default_device(device):
      case = train_step.Case(config, [device])
      case.prepare()
      found[name] = {key: float(value) for key, value in case.metrics.items()}
  differences = {key: abs(value - found['here'][key]) / (abs(value) + 1e-6)
                 for key, value in found['cpu'].items()}
  largest = float(np.max(list(differences.values())))      # NaN where any of them is
  yield {'largest': largest, 'relative_differences': differences, **found}


def finite(plan: Rehearsal) -> Iterator[dict]:
  """Many steps in bfloat16, none of which may give a number that is not finite."""
  config = plan.config(model__size=min(plan.sizes), model__dtype='bfloat16',
                       batch_size=plan.many * jax.device_count())
  case = train_step.Case(config)
  case.prepare()
  for number in range(1, plan.nan_steps + 1):
    case.run()
    values = {key: float(value) for key, value in case.metrics.items()}
    wrong = [key for key, value in values.items() if not math.isfinite(value)]
    if wrong or number == plan.nan_steps:
      yield {'steps': number, 'not_finite': wrong, 'metrics': values}
      break


def train(plan: Rehearsal, name: str, seconds: str) -> Iterator[dict]:
  """Trains a config of the package for the seconds that are left, and keeps what it became."""
  run = RUNS / ('tiny' if plan.tiny else '') / name
  run.mkdir(parents=True, exist_ok=True)
  changes = (['steps=2', 'batch_size=4', 'model.width=4', 'grid=4'] if plan.tiny else [])
  command = [sys.executable, '-m', 'xmc_jax', 'train', '--config', name, '--workdir', str(run),
             '--config.data.loader=arrays', *(f'--config.{change}' for change in changes)]
  with (run / 'log.txt').open('w') as log:
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
      process.wait(float(seconds))
    except subprocess.TimeoutExpired:
      process.send_signal(signal.SIGTERM)
      process.wait(120)
  if process.returncode:
    raise SystemExit((run / 'log.txt').read_text().strip().splitlines()[-1])
  shutil.copy(run / 'metrics.jsonl', plan.out / f'{name}_metrics.jsonl')
  last = json.loads((run / 'metrics.jsonl').read_text().splitlines()[-1])
  yield {'config': name, **last}
  import speedrun  # needs what sampling needs: Pillow, tokenizers, orbax

  from xmc_jax.sampling import TextToImage
  from xmc_jax.utils import image_io
  model = TextToImage.load(run)
  image_io.save_png(plan.out / f'{name}_sheet.png', speedrun.sheet(model))
  weights = {jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(leaf)
             for part in ('params', 'stats')
             for path, leaf in jax.tree_util.tree_leaves_with_path({part: model.tree[part]})}
  safetensors_numpy.save_file(weights, plan.out / f'{name}_generator.safetensors')
  yield {'config': name, 'generator_step': model.step}


PARTS: dict[str, Callable[..., Iterator[dict]]] = {
    'facts': facts, 'step': step, 'choices': choices, 'kernels': kernels, 'parity': parity,
    'finite': finite, 'train': train}


def schedule(plan: Rehearsal) -> list[tuple[list[str], float]]:
  """The parts with their arguments, the most telling first, and their limits in seconds."""
  steps = [(['step', str(px), dtype], 150.0 if dtype == 'bfloat16' else 90.0)
           for dtype in plan.dtypes for px in plan.sizes]
  choices = [(['choices', key, value], 60.0) for key, value in
             [*(('impl', impl) for impl in plan.implementations), ('remat', 'blocks')]]
  return [(['facts'], 90), *steps[:1], (['finite'], 120), (['parity'], 180), *steps[1:],
          *choices, (['kernels'], 120)]


def run_part(words: list[str], limit: float, plan: Rehearsal) -> None:
  """Runs a part in a process of its own; a line says where it failed or ran out of time."""
  command = [sys.executable, __file__, '--out', str(plan.out), '--part', *words]
  began = time.monotonic()
  try:
    done = subprocess.run(command + ['--tiny'] * plan.tiny, timeout=limit, capture_output=True,
                          text=True)
    error = done.returncode and (done.stderr.strip().splitlines() or ['no message'])[-1]
  except subprocess.TimeoutExpired:
    error = f'ended after its limit of {limit:.0f} s'
  plan.tell(part=words[0], arguments=words[1:], part_seconds=round(time.monotonic() - began, 1),
            **{'error': error} if error else {})


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
  parser.add_argument('--out', type=pathlib.Path, required=True, help='folder of the results')
  parser.add_argument('--minutes', type=float, default=25, help='for everything; default: 25')
  parser.add_argument('--tiny', action='store_true', help='rehearse on a CPU')
  parser.add_argument('--part', nargs='+', help=argparse.SUPPRESS)
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  plan = Rehearsal(args.out.resolve(), args.tiny)
  if args.part:
    name, *arguments = args.part
    for line in PARTS[name](plan, *arguments):
      plan.tell(part=name, **line)
    return
  until = time.monotonic() + 60 * args.minutes
  left = lambda: until - time.monotonic()
  for words, limit in schedule(plan):
    if (given := min(limit, left() - RESERVED)) > 20 or args.tiny:
      run_part(words, 600 if args.tiny else given, plan)
  for number, name in enumerate(plan.trainings):
    share = max(left() / (len(plan.trainings) - number) - 60, 30)
    run_part(['train', name, f'{share:.0f}'], share + 180, plan)


if __name__ == '__main__':
  main()
