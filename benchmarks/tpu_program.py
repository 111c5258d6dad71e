"""The cost of a step on a TPU slice that need not be there, from what libtpu's compiler writes.

Used by `scaling.py --compile`.
"""
from __future__ import annotations

import collections
import datetime
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import time
import types
from typing import Any

import collectives as moves
import hlo
import jax
import ml_collections
import program_cost
from jax.experimental import topologies

from xmc_jax import methods
from xmc_jax.training import mesh as meshes
from xmc_jax.training.program import Program
from xmc_jax.types import UserError

_STEP, _LAST = 'jit_run*after_optimizations', '-memory-usage-report.txt'
_CHANNEL = re.compile(r' = (.*?) [\w-]+\(.*channel_id=(\d+)')
_ON_CHIP = re.compile(r'\b\w+(\[[\d,]*\]\{[^}]*S\([1-9]\)[^}]*\})')
_MOVES = re.compile(r' (all-gather|all-reduce|reduce-scatter|all-to-all)\(')


def compile_round(topology: str, config: ml_collections.ConfigDict, n: int) -> None:
  """Has libtpu compile round `n` of the step for a slice; its dump is what is wanted of it."""
  slice_ = topologies.get_topology_desc(topology, platform='tpu')
  jax.config.update('jax_platforms', 'cpu')
  mesh = meshes.make_mesh(list(slice_.devices))
  meshes.check_rows(config.batch_size, config.microbatches, mesh)
  _program(config, mesh).trace()[n].lower().compile()


def _program(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> Program:
  return methods.program(methods.build(config), config, mesh)


def dump(argv: list[str], n: int, folder: pathlib.Path) -> None:
  """Starts this script for round `n`, and ends it as soon as its dump is complete: the optimised
  program and its memory are then settled, generating code would take many times as long."""
  flags, errors = f'--xla_dump_to={folder} --xla_dump_hlo_as_text', folder / 'stderr'
  with errors.open('w') as file:      # not a pipe, which would be full after 64 kB of warnings
    child = subprocess.Popen([sys.executable, *argv, f'--round={n}'], stderr=file, env={
        **os.environ, 'XLA_FLAGS': flags, 'TPU_SKIP_MDS_QUERY': '1'})
  while child.poll() is None and not list(folder.glob(f'*{_STEP}{_LAST}')):
    time.sleep(1)
  size, before = lambda: sum(path.stat().st_size for path in folder.glob(f'*{_STEP}*')), -1
  while size() != before:                                    # the files are there, maybe not whole
    before = size()
    time.sleep(5)
  child.kill()
  child.wait()
  if not list(folder.glob(f'*{_STEP}{_LAST}')):
    raise UserError(f'the compiler gave up: {errors.read_text(errors="replace").strip()[-500:]}')


def dumped(folder: pathlib.Path) -> types.SimpleNamespace:
  """A dump as far as it is like a jax.stages.Compiled."""
  [text] = folder.glob(f'*{_STEP}_after_buffer_assignment.txt')
  [buffers] = folder.glob(f'*{_STEP}-buffer-assignment.txt')
  size = lambda kind: sum(map(int, re.findall(
      rf'^allocation \d+: size (\d+), (?:page \d+, )?{kind}', buffers.read_text(), re.MULTILINE)))
  memory = types.SimpleNamespace(argument_size_in_bytes=size('parameter'),
                                 temp_size_in_bytes=size('preallocated-temp'))
  program = once(text.read_text())
  return types.SimpleNamespace(as_text=lambda: program, memory_analysis=lambda: memory)


def once(text: str) -> str:
  """A TPU program that has every exchange once.

  One that runs beside other work stands in each kernel that carries it on, under one channel and of
  one shape: kept is the kernel that starts it. (All sums of a shard_map are of the same channel.)
  """
  lines = text.splitlines()
  first = {}
  for k, line in enumerate(lines):
    if channel := _CHANNEL.search(line):
      key = re.sub(r'\{[^}]*\}', '', channel[1]), channel[2]
      if key not in first or 'AsyncCollectiveStart' in lines[k + 1]:
        first[key] = k
  keep = set(first.values())
  return '\n'.join(_MOVES.sub(' bitcast(', line) if _CHANNEL.search(line) and k not in keep
                   else line for k, line in enumerate(lines))


def outside(text: str) -> str:
  """The same for counting bytes: what lies in memory on the chip has none, and pieces of one array
  are joined by name only. A piece that is fetched in advance counts twice."""
  lines = (line if ' slice(' in line else _ON_CHIP.sub(r'near\1', line)
           for line in text.splitlines())
  return '\n'.join(line.replace(' custom-call(', ' bitcast(') if '"ConcatBitcast"' in line else line
                   for line in lines)


def facts(config: ml_collections.ConfigDict, topology: str,
          folders: list[pathlib.Path]) -> dict[str, Any]:
  """The line of one program, from the dumps of its rounds."""
  steps = [types.SimpleNamespace(rounds=[dumped(folder)]) for folder in folders]
  state = _program(config, meshes.make_mesh(jax.devices('cpu')[:1])).state_spec
  chips, rounds = hlo.parse(steps[0].rounds[0].as_text()).devices, []
  for step in steps:
    sent = collections.Counter()
    for array in moves.arrays(step, moves.Sizes(config, state, chips)):
      sent[array['for']] += array['sent']
    cost = program_cost.cost(step.rounds[0])
    cost.pop('uncounted', None)                              # the starts and ends of exchanges
    read = outside(step.rounds[0].as_text())
    cost['bytes_accessed'] = program_cost.cost(types.SimpleNamespace(
        as_text=lambda text=read: text, memory_analysis=lambda: None))['bytes_accessed']
    exchanges = sum(c.times for c in program_cost.collectives(step.rounds[0]))
    rounds.append(cost | {'exchanges': exchanges, 'sent': dict(sent)})
  return {'topology': topology, 'chips': chips, 'px': config.model.size,
          'width': config.model.width, 'rows': config.batch_size, 'length': config.text.length,
          'dtype': config.model.dtype, 'impl': config.model.impl,
          'remat': config.model.remat, 'microbatches': config.microbatches,
          'bn_group_size': config.model.bn_group_size, 'shard': config.shard, 'rounds': rounds,
          'jax': jax.__version__, 'libtpu': importlib.metadata.version('libtpu'),
          'date': str(datetime.date.today())}
