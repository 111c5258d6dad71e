"""Checks before training that a step fits into the memory of its devices."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from xmc_jax.training.program import Memory, Program, Step
from xmc_jax.types import UserError
from xmc_jax.utils import machine


def less(model: Mapping[str, Any], microbatches: bool) -> str:
  """What makes a step smaller, by the keys of `config.model` and whether it can run in parts."""
  ways = ['--config.batch_size']
  if microbatches:
    norm = ' and needs --config.model.bn_group_size' if 'bn_group_size' in model else ''
    ways.append(f'--config.microbatches=2 or more, which keeps the batch of the losses{norm}')
  ways.append('on several devices --config.shard=parameters')
  if 'remat' in model:
    ways.append('on GPUs and TPUs --config.model.remat=blocks')
  return f'make it smaller: {"; ".join(ways)}'


def available(mesh: jax.sharding.Mesh) -> int | None:
  """Bytes that a step may use on each device; None where the backend does not report it."""
  device = mesh.local_devices[0]
  if device.platform == 'cpu':       # its devices share the host's memory
    return machine.memory() // len(mesh.local_devices)
  return (device.memory_stats() or {}).get('bytes_limit')


def summary(memory: Memory | None) -> str:
  """A line about the memory of a step; '' where the backend does not report it."""
  if memory is None:
    return ''
  return (f'memory: {memory.arguments / 1e6:,.0f} MB of state, weights and batch, '
          f'{memory.temporaries / 1e6:,.0f} MB of temporaries, on each device')


def compile_to_fit(program: Program, advice: str) -> Step:
  """The compiled step; UserError with `advice`, that of `less`, if it does not fit."""
  try:
    step = program.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    raise UserError(f'the step does not fit into the memory of {_kind(program.mesh)}, according to '
                    f'the compiler; {advice}') from error
  memory, have = step.memory(), available(program.mesh)
  if memory and have is not None and sum(memory) > have:
    raise UserError(f'the step needs {sum(memory) / 1e9:,.1f} GB of memory on each device, and '
                    f'{_kind(program.mesh)} has {have / 1e9:,.1f} GB; {advice}')
  return step


def _kind(mesh: jax.sharding.Mesh) -> str:
  return mesh.devices.flat[0].device_kind
