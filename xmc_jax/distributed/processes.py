"""Several processes that train together: how they meet, agree, stop and end.

One process a host (or a device), each started with the same command. All of them run the same
program on one mesh; process 0 alone writes text and images and prints. A run of one process takes
none of this.
"""
from __future__ import annotations

import contextlib
import os
import socket
import time
import traceback
import uuid
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from xmc_jax.distributed import wire
from xmc_jax.distributed.peers import Peers
from xmc_jax.training import mesh as meshes
from xmc_jax.types import UserError

_SHARED_WITHIN = 10.0          # seconds for a file to be seen on the other hosts
_peers: Peers | None = None    # the other processes of this one's run


@contextlib.contextmanager
def joined(*, distributed: bool = False, coordinator: str | None = None,
           processes: int | None = None, process: int | None = None, heartbeat: float = 60,
           wait: float = 300, facts: dict[str, str], command: str = '') -> Iterator[None]:
  """Makes this process one of a run of several while the context is open; enter it first of all.

  Args:
    distributed: find out by itself, on Cloud TPU, SLURM, Kubernetes and Open MPI.
    coordinator, processes, process: or be told: 'HOST:PORT' of process 0, how many there are, and
      which one this is, counted from 0. With neither there is this one process, as ever.
    heartbeat: seconds of silence after which another process counts as dead.
    wait: seconds to wait for all processes to come.
    facts: versions and the like, which have to be the same everywhere.
    command: its name, with which a message begins.

  While it is open, this process ends with code `peers.PEER_IS_GONE` and one sentence when another
  one has gone. An error that leaves the context is told to the others, which then end too.

  Raises:
    UserError: for arguments that do not go together, where nothing is found out, and where the
      other processes do not come.
  """
  global _peers
  told = _check(distributed, coordinator, processes, process)
  if distributed:
    told = _detect(wait)
  if told is None or told[1] == 1:
    yield
    return
  _peers = Peers(*told, heartbeat=heartbeat, wait=wait, facts=facts, command=command)
  try:
    _start_jax(_peers, detect=distributed, heartbeat=heartbeat, wait=wait)
    if _peers.index:
      _be_silent(_peers)
    _connect_devices()
    yield
    _peers.gather(None, last=True)
    jax.distributed.shutdown()         # a barrier, passed at once: all processes are here
    _peers.close()
  except UserError as error:
    _peers.leave(str(error))
    raise
  except BaseException as error:
    # A collective that fails does so because a process has gone, which then is the thing to say.
    _peers.hear()
    traceback.print_exc()
    _peers.leave(f'{type(error).__name__}: {" ".join(str(error).split())[:200]}')
    os._exit(1)                        # the ordinary end would wait for the others
  finally:
    _peers = None


def gather(value: Any) -> list:
  """The values of all processes, in their order, by way of JSON; every process has to call it."""
  return [value] if _peers is None else _peers.gather(value)


def check_same(values: dict[str, Any]) -> None:
  """Raises UserError, on every process, unless all processes have the same values."""
  everywhere = gather(values)
  for process, theirs in enumerate(everywhere):
    for name, first in everywhere[0].items():
      if theirs.get(name) != first:
        raise UserError(f'{name} is {theirs.get(name)} on process {process} and {first} on process '
                        '0; start the same command, with the same files, on every host')


def check_shared(folder: str | os.PathLike[str]) -> None:
  """Raises UserError, on every process, unless all of them see the same files in `folder`."""
  if _peers is None:
    return
  name = gather(f'.seen_by_all_{uuid.uuid4().hex}' if _peers.index == 0 else None)[0]
  file = epath.Path(folder) / name
  if _peers.index == 0:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('')
  gather(None)                         # it is there
  blind = [process for process, sees in enumerate(gather(_appears(file))) if not sees]
  if _peers.index == 0:
    file.unlink()
  if blind:
    raise UserError(f'process {", ".join(map(str, blind))} does not see in {folder} what process 0 '
                    'writes there; give a --workdir on storage that all hosts share')


class Agreement:
  """Whether any process wants something, known to all at the same step, one step later.

  The answer is computed on the devices, behind the step that is under way, and fetched at the next
  step: nobody waits. With one process it is the question.
  """

  def __init__(self, mesh: jax.sharding.Mesh):
    self._several = jax.process_count() > 1
    self._rows = meshes.by_row(mesh, rounds=False)
    self._any = jax.jit(lambda flags: flags.any(), out_shardings=meshes.replicated(mesh))
    self._before: jax.Array | None = None

  def __call__(self, wanted: bool) -> bool:
    if not self._several:
      return wanted
    before = self._before
    flags = meshes.put_rows({'wanted': np.full(jax.local_device_count(), wanted)}, self._rows)
    self._before = self._any(flags['wanted'])
    return before is not None and bool(before)


def _check(distributed: bool, coordinator: str | None, processes: int | None,
           process: int | None) -> tuple[str, int, int] | None:
  told = {'--coordinator': coordinator, '--processes': processes, '--process': process}
  given = [name for name, value in told.items() if value is not None]
  missing = [name for name in told if name not in given]
  if distributed and given:
    raise UserError(f'--distributed finds out what {given[0]} tells; give one or the other')
  if given and missing:
    raise UserError(f'{" and ".join(missing)} missing: --coordinator=HOST:PORT, --processes=N and '
                    '--process=I belong together')
  if not given:
    return None
  wire.split_address(coordinator)
  if processes < 1 or not 0 <= process < processes:
    raise UserError(f'--process={process} is not one of --processes={processes}; they count from '
                    f'0 to {processes - 1}')
  return coordinator, processes, process


def _detect(wait: float) -> tuple[str, int, int]:
  """Address of process 0, number of processes and this one's, from what started them."""
  # The one thing that jax.distributed.initialize() does not tell without doing the rest as well.
  from jax._src.clusters import ClusterEnv
  try:
    address, count, index, _ = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, int(wait))
  except Exception as error:           # each kind of cluster has its own kinds
    raise UserError(f'--distributed: asking the cluster failed ({" ".join(str(error).split())}); '
                    'give --coordinator, --processes and --process instead') from error
  if address is None or count is None or index is None:
    raise UserError('--distributed: this is neither Cloud TPU nor a job of SLURM, Kubernetes or '
                    'Open MPI; give --coordinator=HOST:PORT, --processes=N and --process=I')
  return address, count, index


def _start_jax(peers: Peers, detect: bool, heartbeat: float, wait: float) -> None:
  # JAX's own handling of SIGTERM would swallow it until the training loop takes over.
  jax.config.update('jax_enable_preemption_service', False)
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  # All of JAX's connections begin and end on this host, so that no proxy is asked.
  jax.config.update('jax_check_proxy_envs', False)
  os.environ['no_grpc_proxy'] = ','.join(
      filter(None, [os.environ.get('no_grpc_proxy', os.environ.get('no_proxy')), '127.0.0.1']))
  jax.distributed.initialize(
      peers.service, peers.count, peers.index, coordinator_bind_address=peers.service,
      # Of a scheduler only the device of this process is asked, where it has one a process.
      cluster_detection_method=None if detect else 'deactivate',
      initialization_timeout=int(wait),
      # JAX aborts the process, so it may only do so when `peers` has failed to end it.
      heartbeat_timeout_seconds=int(3 * heartbeat) + 60)


def _connect_devices() -> None:
  """The first collectives, now that nothing has yet kept one process longer than another.

  On a CPU the first one over some devices fails (of gloo's 30 s) where a process is late for it, by
  compiling what others find compiled, say. Later ones wait as long as it takes.
  """
  gather(None)
  multihost_utils.sync_global_devices('joined')        # one device a process, as for checkpoints
  agreed = Agreement(meshes.make_mesh())               # all devices, as for the step
  agreed(False)
  agreed(False)


def _be_silent(peers: Peers) -> None:
  """From here on nothing is printed but errors; also not by libraries, hence the descriptor."""
  print(f'process {peers.index} of {peers.count} on {socket.gethostname()} has joined; process 0 '
        'tells of the run', flush=True)
  os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _appears(file: epath.Path) -> bool:
  """Whether `file` is seen on this host; shared storage may need a moment."""
  until = time.monotonic() + _SHARED_WITHIN
  while not file.exists():
    if time.monotonic() > until:
      return False
    time.sleep(0.2)
  return True
