"""Devices: a mesh with one axis named 'data', over which the examples of a batch are split."""
from __future__ import annotations

import collections
import contextlib

import jax
import numpy as np

from xmc_jax.types import Tree, UserError
from xmc_jax.utils import machine


def make_mesh(devices: list[jax.Device] | None = None) -> jax.sharding.Mesh:
  """A mesh over `devices`, by default all devices of all processes, ordered by process.

  The axis is Auto: the program is written for the global batch, and the compiler partitions it. Not
  `jax.make_mesh`, which may permute devices: those of process p must hold the p-th block of
  examples, which is the one that it reads, so that a batch is the same for any number of processes.

  Raises UserError if the processes have different numbers of devices.
  """
  devices = jax.devices() if devices is None else devices
  devices = sorted(devices, key=lambda device: (device.process_index, device.id))
  counts = collections.Counter(device.process_index for device in devices)
  if len(set(counts.values())) > 1:
    shown = ', '.join(f'{n} on process {process}' for process, n in counts.items())
    raise UserError(f'the numbers of devices differ ({shown}); start every process with the same '
                    'number')
  return jax.sharding.Mesh(np.array(devices), ('data',),
                           axis_types=(jax.sharding.AxisType.Auto,))


def summary(mesh: jax.sharding.Mesh) -> str:
  """Number and kind of the devices, and the number of processes if there are several."""
  kind = mesh.devices.flat[0].device_kind
  processes = f' of {jax.process_count()} processes' if jax.process_count() > 1 else ''
  return f'{mesh.size} device{"s" if mesh.size > 1 else ""} ({kind}){processes}'


def one_cpu_device_a_core(most: int = 8) -> None:
  """Makes a CPU count as several devices, since one leaves cores idle with small batches.

  For programs whose results do not depend on the number of devices. Call it before JAX starts: a
  running JAX and a number set by the user stay as they are.
  """
  if jax.config.jax_num_cpu_devices < 0:
    with contextlib.suppress(RuntimeError):
      jax.config.update('jax_num_cpu_devices', min(most, machine.cores()))


def replicated(mesh: jax.sharding.Mesh) -> jax.NamedSharding:
  """The whole array on every device, for parameters, state and metrics."""
  return jax.NamedSharding(mesh, jax.P())


def by_row(mesh: jax.sharding.Mesh, *, rounds: bool = True) -> jax.NamedSharding:
  """Examples split over devices, of arrays [r, b, ...], or [b, ...] with rounds=False."""
  return jax.NamedSharding(mesh, jax.P(None, 'data') if rounds else jax.P('data'))


def check_rows(rows: int, microbatches: int, mesh: jax.sharding.Mesh) -> None:
  """Raises UserError unless the devices divide each microbatch of a batch of `rows` evenly."""
  divisor = mesh.size * microbatches
  if rows <= 0 or rows % divisor:
    near = max(divisor, rows // divisor * divisor)
    by = f' times --config.microbatches={microbatches}' if microbatches > 1 else ''
    raise UserError(f'--config.batch_size={rows}: must be a positive multiple of the number of '
                    f'devices, {mesh.size}{by}; use for instance --config.batch_size={near}')


def put_rows(batch: dict[str, np.ndarray], sharding: jax.NamedSharding) -> Tree:
  """Global arrays from the examples of each process; none leaves the host that read it."""
  return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def put_whole(tree: Tree, sharding: jax.NamedSharding) -> Tree:
  """Global arrays from a tree that every process has whole; each device gets its part.

  Not `jax.device_put`, which first compares the arrays of all processes.
  """
  def put(x):
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
  return jax.tree.map(put, tree)
