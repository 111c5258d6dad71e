"""Devices: one mesh axis named 'data', over which the rows of a batch are split."""
from __future__ import annotations

import collections
import contextlib
import os

import jax
import numpy as np

from xmc_jax.types import Tree, UserError


def make_mesh(devices: list[jax.Device] | None = None) -> jax.sharding.Mesh:
  """A mesh over `devices`, by default all devices of all processes, in the order of these.

  Its axis is Auto: the program is written for the global batch and the compiler places it. Not
  `jax.make_mesh`, which may permute devices: process p's have to hold the p-th block of rows, which
  is the one it reads, so that a batch is the same for any number of processes. UserError where the
  processes have different numbers of devices.
  """
  devices = jax.devices() if devices is None else devices
  devices = sorted(devices, key=lambda device: (device.process_index, device.id))
  counts = collections.Counter(device.process_index for device in devices)
  if len(set(counts.values())) > 1:
    shown = ', '.join(f'{n} on process {process}' for process, n in counts.items())
    raise UserError(f'the numbers of devices differ ({shown}); start every process with as many')
  return jax.sharding.Mesh(np.array(devices), ('data',),
                           axis_types=(jax.sharding.AxisType.Auto,))


def summary(mesh: jax.sharding.Mesh) -> str:
  """Number and kind of the devices, and the number of processes if there are several."""
  kind = mesh.devices.flat[0].device_kind
  processes = f' of {jax.process_count()} processes' if jax.process_count() > 1 else ''
  return f'{mesh.size} device{"s" if mesh.size > 1 else ""} ({kind}){processes}'


def one_cpu_device_a_core(most: int = 8) -> None:
  """Lets a CPU count as several devices: one leaves cores idle in a forward pass of small batches.

  For programs whose answers do not depend on the number of devices. To be called before JAX
  starts; what the user has set, and a JAX that is running already, stay as they are.
  """
  if jax.config.jax_num_cpu_devices < 0:
    with contextlib.suppress(RuntimeError):
      jax.config.update('jax_num_cpu_devices', min(most, os.cpu_count() or 1))


def replicated(mesh: jax.sharding.Mesh) -> jax.NamedSharding:
  """The same array on every device: parameters, state, metrics."""
  return jax.NamedSharding(mesh, jax.P())


def by_row(mesh: jax.sharding.Mesh, *, rounds: bool = True) -> jax.NamedSharding:
  """Rows split over devices, of arrays [r, b, ...], or [b, ...] with rounds=False."""
  return jax.NamedSharding(mesh, jax.P(None, 'data') if rounds else jax.P('data'))


def check_rows(rows: int, mesh: jax.sharding.Mesh) -> None:
  """Raises UserError unless the devices of `mesh` divide a batch of `rows`."""
  if rows <= 0 or rows % mesh.size:
    near = max(mesh.size, rows // mesh.size * mesh.size)
    raise UserError(f'batch_size = {rows} is not a positive multiple of the {mesh.size} devices; '
                    f'use for instance --config.batch_size={near}')


def put_rows(batch: dict[str, np.ndarray], sharding: jax.NamedSharding) -> Tree:
  """This process's rows as global arrays; no row leaves the host that read it."""
  return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def put_whole(tree: Tree, sharding: jax.NamedSharding) -> Tree:
  """A tree that every process has whole, as global arrays; a device gets its part of each.

  `jax.device_put` would compare the arrays of all processes with each other first.
  """
  def put(x):
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
  return jax.tree.map(put, tree)
