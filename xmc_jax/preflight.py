"""`xmc train --check`: everything that can be found wrong before the first step, on every host.

A mistake does not end the search: what depends on it is left out, the rest is still looked at. No
training step is run; the step is compiled, so that a training that follows finds it in the cache.
"""
from __future__ import annotations

import contextlib
import glob
import importlib.metadata
import math
import os
import pathlib
import re
import shutil
import socket
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from etils import epath
from flax import traverse_util

from xmc_jax import __version__, methods
from xmc_jax.curve import evaluates
from xmc_jax.data import partners as positives
from xmc_jax.data import pipeline
from xmc_jax.data import source as sources
from xmc_jax.describe import step_cost
from xmc_jax.distributed import processes
from xmc_jax.evals import protocols, scores
from xmc_jax.pretrained import start as begin
from xmc_jax.training import mesh as meshes
from xmc_jax.training import same_run
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.training.memory import available, compile_to_fit, less
from xmc_jax.training.program import Program
from xmc_jax.types import UserError
from xmc_jax.utils.lock import locked
from xmc_jax.utils.progress import duration
from xmc_jax.weight_files import files

SHARE = 0.4          # of the FLOP/s of a matrix product that a training step reaches: an assumption
SECONDS = 3.0        # for which the input is timed
ACCELERATORS = {'/dev/nvidia[0-9]*': 'gpu', '/dev/accel[0-9]*': 'tpu',
                '/dev/vfio/[0-9]*': 'tpu'}     # files of drivers


class Findings:
  """What a host finds: lines of the table by name, and sentences about what is wrong.

  `same` holds what must be equal on all hosts. `warnings` end nothing.
  """

  def __init__(self) -> None:
    self.rows: dict[str, str] = {}
    self.same: dict[str, str] = {}
    self.wrong: list[str] = []
    self.warnings: list[str] = []

  @contextlib.contextmanager
  def kept(self) -> Iterator[None]:
    """Keeps the sentence of a UserError, which then ends only the block."""
    try:
      yield
    except UserError as error:
      sentence = ' '.join(str(error).split())
      if sentence not in self.wrong:
        self.wrong.append(sentence)


def check(config: ml_collections.ConfigDict, workdir: str | os.PathLike[str], *,
          allow_changes: bool = False) -> str:
  """The table of what was found for a run of `config` in `workdir`; every process calls this.

  allow_changes: as of `trainer.train`.

  Raises UserError, on every process, with a line for each thing that is wrong on any of them.
  """
  workdir, found = epath.Path(workdir).expanduser(), Findings()
  method = program = protocol = None
  scored = False
  found.same |= {f'config.{key}': str(value) for key, value in traverse_util.flatten_dict(
      config.to_dict(), sep='.').items()}
  _versions(found)
  with found.kept():
    _devices(found)
  with found.kept():
    method = methods.build(config)
    methods.check_training(method, config)
    program = methods.program(method, config, meshes.make_mesh())
    _frozen(found, method)
  with found.kept():
    protocol = protocols.find(config.evals.protocol, '--config.evals.protocol')
    scored = evaluates(config, draws=method is None or method.sample is not None)
    if scored:
      protocol.feature_extractor(None)
  meta: dict[str, Any] = {}
  source, lengths = _data(found, config, meta)
  if scored and config.evals.reference in lengths:
    with found.kept():
      reals = lengths[config.evals.reference]
      scores.refuse_few(config.evals.fakes or protocol.fakes or reals, reals,
                        'set --config.evals.fakes')
  if method is not None and source is not None:
    with found.kept():
      methods.check_labels(method, config, source)
      methods.check_objects(method, config, source)
    with found.kept():
      found.warnings += pipeline.warnings(source, method.tokenizer(), config.batch_size,
                                          config.text.script)
  divides = False
  with found.kept():
    meshes.check_rows(config.batch_size, config.microbatches, meshes.make_mesh())
    divides = True
  written = False
  with found.kept():
    _write_access(found, workdir)
    written = True
  if all(processes.gather(written)):
    with found.kept():
      processes.check_shared(workdir)
  start = 0
  if all(processes.gather(written and program is not None)):
    with found.kept():
      if method and not allow_changes:
        meta |= {'config': config.to_dict(), 'tokenizer': method.tokenizer().text()}
      start = _saved(found, workdir, program, meta)
  if all(processes.gather(bool(program and config.init and not start))):
    with found.kept():
      found.same[f'the weights of --config.init={config.init}'] = files.fingerprint(
          begin.read(config.init, program.state_spec))
  if program:
    with found.kept():
      _disk(found, config, workdir, program)
  step_seconds = None
  if all(processes.gather(program is not None and divides)):
    with found.kept():
      step_seconds = _step(found, config, program, config.steps - start,
                           less(config.model, method.microbatches))
  if source is not None and divides:
    with found.kept():
      _input(found, config, method if program else None, source, step_seconds)
  return _verdict(found)


def _versions(found: Findings) -> None:
  """Whether the installed packages are those that this version asks for."""
  installed = lambda name: importlib.metadata.version(name)
  found.rows['versions'] = f'xmc_jax {__version__}, jax {jax.__version__}'
  with contextlib.suppress(importlib.metadata.PackageNotFoundError):
    for wanted in importlib.metadata.requires('xmc_jax') or ():
      name, bounds, condition = re.match(r'([\w-]+)(?:\[.*?\])?([^;]*);?(.*)', wanted).groups()
      if 'extra' in condition:
        continue
      try:
        version = installed(name)
      except importlib.metadata.PackageNotFoundError:
        found.wrong.append(f'the package {name} is missing; run: pip install xmc_jax')
        continue
      for sign, bound in re.findall(r'(>=|<)([\d.]+)', bounds):
        if (_numbers(version) < _numbers(bound)) == (sign == '>='):
          found.wrong.append(f"{name} {version} is installed and xmc_jax needs {bounds.strip()}; "
                             f"run: pip install '{name}{bounds.strip()}'")
  for plugin in importlib.metadata.distributions():
    name = (plugin.name or '').lower()
    if re.fullmatch(r'jax-cuda\d+-(plugin|pjrt)', name):
      jaxlib = installed('jaxlib')
      if plugin.version.split('.')[:3] != jaxlib.split('.')[:3]:
        found.wrong.append(f'{name} {plugin.version} does not go with jaxlib {jaxlib}; run: pip '
                           f'install {name}=={jaxlib}')


def _numbers(version: str) -> tuple[int, ...]:
  """The numbers of a version without zeros at the end, so that 0.13 equals 0.13.0."""
  numbers = [int(n) for n in re.match(r'[\d.]*', version)[0].split('.') if n]
  while numbers and not numbers[-1]:
    numbers.pop()
  return tuple(numbers)


def _devices(found: Findings) -> None:
  """Which devices JAX has; UserError where it has overlooked this host's accelerators."""
  devices = jax.devices()
  have = available(meshes.make_mesh(devices))
  found.rows['devices'] = meshes.summary(meshes.make_mesh(devices)) + (
      f', {have / 1e9:,.1f} GB each' if have else '')
  for pattern, kind in ACCELERATORS.items():
    there = sorted(glob.glob(pattern))
    if there and devices[0].platform == 'cpu' and 'cpu' not in chosen_platforms():
      raise UserError(f'this host has {there[0]}, but JAX sees only its CPU; run: pip install '
                      f"'xmc_jax[{kind}]', and see that the driver is new enough "
                      '(docs/launching.md)')


def chosen_platforms() -> list[str]:
  """What the user has told JAX to take, by JAX_PLATFORMS; empty where JAX may choose."""
  return (jax.config.jax_platforms or '').split(',')


def _frozen(found: Findings, method: methods.Method) -> None:
  """Reads each file of weights that are not trained, and the tokenizer."""
  for name, load in method.frozen.items():
    with found.kept():
      tree = load()
      digits = found.same[f'the frozen network {name}'] = files.fingerprint(tree)
      size = sum(x.size for x in jax.tree.leaves(tree))
      found.rows[f'frozen {name}'] = f'{size:,} parameters, {digits[:12]}'
  with found.kept():
    found.same |= methods.frozen_facts(method, method.tokenizer())


def _data(found: Findings, config: ml_collections.ConfigDict, meta: dict[str, Any]
          ) -> tuple[sources.Source | None, dict[str, int]]:
  """The split that is trained on, and the lengths of both, once examples of them have been read.

  Their fingerprints are put into `meta`, as a checkpoint has them.
  """
  train, lengths, names = None, {}, dict(zip(sources.SPLITS, ('data', 'heldout'), strict=True))
  for split in sources.SPLITS:
    with found.kept():
      source = sources.load(config.data.name, split, config.model.size, **config.data.options)
      digits = found.same[f'the data, split {split},'] = sources.fingerprint(source)
      meta[names[split]] = digits
      found.rows[f'data, {split}'] = f'{len(source):,} images, {digits[:12]}'
      lengths[split] = len(source)
      train = source if split == 'train' else train
  return train, lengths


def _write_access(found: Findings, workdir: epath.Path) -> None:
  """Writes a file and deletes it; process 0 also sees whether another training is there."""
  probe = workdir / f'.probe_{socket.gethostname()}_{os.getpid()}'
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    probe.write_text('')
    probe.unlink()
  except Exception as error:       # a bucket's library has kinds of its own
    raise UserError(f'--workdir={workdir}: cannot be written to '
                    f'({getattr(error, "strerror", None) or error}); give a folder or bucket that '
                    'this host may write to') from error
  if jax.process_index() == 0:
    with locked(workdir):
      pass


def _saved(found: Findings, workdir: epath.Path, program: Program, meta: dict[str, Any]) -> int:
  """The step that a run in `workdir` resumes from; UserError if it is another run.

  meta: what a checkpoint of this run would say; without all of it only the model is compared.
  """
  if not (workdir / 'checkpoints').exists():
    return 0
  with Checkpoints(workdir / 'checkpoints', every=None) as checkpoints:
    start = checkpoints.latest() or 0
    if start:
      if {'config', 'tokenizer', 'data', 'heldout'} <= meta.keys():
        same_run.check(workdir, checkpoints.meta(), meta)
      checkpoints.check(program.state_spec)
      found.rows['resumes'] = f'from step {start:,}'
  return start


def _disk(found: Findings, config: ml_collections.ConfigDict, workdir: epath.Path,
          program: Program) -> None:
  """Whether the checkpoints that stay, and the next while it is written, have room."""
  size = sum(math.prod(x.shape) * (4 if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
                                   else x.dtype.itemsize)
             for x in jax.tree.leaves(program.state_spec))
  number = config.keep + 1 + (config.steps // config.keep_every if config.keep_every else 0)
  number += bool(config.evals.every)      # the best
  need = number * size
  found.rows['checkpoints'] = f'{size / 1e6:,.0f} MB each, {need / 1e6:,.0f} MB for {number}'
  if '://' in str(workdir):
    return
  there = next(path for path in (workdir.resolve(), *workdir.resolve().parents) if path.exists())
  there_already = sum(file.stat().st_size for file in pathlib.Path(workdir).glob(
      'checkpoints/*/state/**/*') if file.is_file())
  free = shutil.disk_usage(there).free
  found.rows['disk'] = f'{free / 1e6:,.0f} MB free'
  if free + there_already < need:
    raise UserError(f'--workdir={workdir}: {free / 1e6:,.0f} MB are free and {number} '
                    f'checkpoints take {need / 1e6:,.0f} MB; make room, give another --workdir, or '
                    'keep fewer with --config.keep and --config.keep_every')


def product_rate(dtype: str) -> float:
  """FLOP/s of a matrix product on each device of this host, all of them at work."""
  devices = jax.local_devices()
  n = 1024 if devices[0].platform == 'cpu' else 8192
  product = jax.jit(lambda x: x @ x)
  inputs = [jax.device_put(jnp.full((n, n), 1 / n, dtype), device) for device in devices]
  times = []
  for _ in range(4):             # the first compiles
    began = time.perf_counter()
    jax.block_until_ready([product(x) for x in inputs])
    times.append(time.perf_counter() - began)
  return 2 * n ** 3 / min(times[1:])


def _step(found: Findings, config: ml_collections.ConfigDict, program: Program, steps: int,
          advice: str) -> float | None:
  """Compiles the step for the devices' memory; the seconds that it may take, None if unknown."""
  began = time.perf_counter()
  step = compile_to_fit(program, advice)
  seconds, memory = time.perf_counter() - began, step.memory()
  found.rows['compiled'] = f'in {seconds:,.0f} s'
  if memory:
    found.rows['memory'] = f'{sum(memory) / 1e9:,.2f} GB on each device'
  flops = step_cost(program, step).get('flops')
  if not flops:
    return None
  rate = product_rate(config.model.get('dtype', 'float32'))
  step_seconds = flops / rate / SHARE
  found.rows['estimate'] = (
      f'{flops / 1e12:,.3f} TFLOP a step and device, {rate / 1e12:,.2f} TFLOP/s in a product: at '
      f'{SHARE:.0%} of that {step_seconds:,.3f} s a step, {duration(steps * step_seconds)} for '
      f'{steps:,} steps')
  return step_seconds


def _input(found: Findings, config: ml_collections.ConfigDict, method: methods.Method | None,
           source: sources.Source, step_seconds: float | None) -> None:
  """Times the input of this host alone, and compares it with what the devices will ask for."""
  partners, loader = positives.find(source, config.data.partners), pipeline.choose_loader(
      config.data.loader)
  if method is None:
    return
  rounds, count = len(method.objective.rounds), jax.process_count()
  examples = rounds * config.batch_size // count
  with contextlib.closing(pipeline.batches(
      source, method.tokenizer(), seed=config.seed, start=0, rounds=rounds, rows=config.batch_size,
      loader=loader, process=(jax.process_index(), count), partners=partners)) as batches:
    for _ in range(3):           # the loader has made some ahead
      next(batches)
    began, made = time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < SECONDS:
      next(batches)
      made += examples
  rate = made / seconds
  found.rows['input'] = f'{rate:,.0f} examples/s on this host, by {loader}'
  if step_seconds and rate < (needed := examples / step_seconds):
    found.rows['input'] += f'; the devices may ask for {needed:,.0f}'
    found.warnings.append(
        f'the input gives {rate:,.0f} examples/s and the devices may ask for {needed:,.0f}; take '
        'a host with more cores, --config.data.loader=tf_data, or images prepared at the size of '
        'the run')


def _verdict(found: Findings) -> str:
  """The table for people, from what all processes found; UserError if anything is wrong."""
  hosts = processes.gather({'host': socket.gethostname(), **vars(found)})
  said: dict[str, list[str]] = {}
  for kind in ('wrong', 'warnings'):
    for i, host in enumerate(hosts):
      for sentence in host[kind]:
        said.setdefault(f'{kind} {sentence}', []).append(f'process {i} on {host["host"]}')
  for name in dict.fromkeys(name for host in hosts for name in host['same']):
    # A host lacks a key of the config that others were given, or what it failed to read.
    values = {host['same'].get(name, 'not set') for host in hosts
              if name in host['same'] or name.startswith('config.')}
    if len(values) > 1:
      said[f'wrong {name} differs between hosts ({", ".join(sorted(values))}); start the same '
           'command, with the same files, on every host'] = []
  lines = {'wrong': [], 'warnings': []}
  for text, where in said.items():
    kind, _, sentence = text.partition(' ')
    lines[kind].append(sentence if len(where) in (0, len(hosts)) else
                       f'{", ".join(where)}: {sentence}')
  table = '\n'.join([f'{name:<16}{value}' for name, value in found.rows.items()] +
                    [f'warning: {line}' for line in lines['warnings']])
  if lines['wrong']:
    print(table, flush=True)
    raise UserError('\n  '.join([f'not ready; to mend: {len(lines["wrong"])}', *lines['wrong']]))
  return f'{table}\nready: `xmc train` with the same flags begins or resumes the run'
