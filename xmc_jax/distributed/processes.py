"""Several processes that train together: how they join, compare what must agree, stop and end.

One process a host (or a device), each started with the same command. All of them run the same
program on one mesh; process 0 alone writes text and images and prints. They agree through JAX's
coordination service, which lives in process 0, the coordinator. A run of one process needs none of
this.
"""
from __future__ import annotations

import contextlib
import glob
import itertools
import json
import os
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from xmc_jax.distributed import watchdog
from xmc_jax.types import UserError

_TPU_FILES = ('/dev/accel[0-9]*', '/dev/vfio/[0-9]*')      # of its driver
_SHARED_WITHIN = 10.0          # seconds until a new file has to be visible on the other hosts
_state: Any = None             # JAX's record of the processes, in a run of several
_calls = itertools.count()     # of `gather`, the same number on every process


class NotJoined(UserError):
  """This process could not join the others, and may be able to later: the code is LOST, not 2."""
  code = watchdog.LOST


@contextlib.contextmanager
def joined(*, distributed: bool = False, coordinator: str | None = None,
           processes: int | None = None, process: int | None = None, heartbeat: float = 60,
           wait: float = 300, facts: dict[str, str], command: str = '') -> Iterator[None]:
  """Makes this process one of several while the context is open; enter it before JAX is used.

  Args:
    distributed: let JAX detect the three arguments below, on Cloud TPU, SLURM, Kubernetes and Open
      MPI. Without it and them the context does nothing.
    coordinator: 'HOST:PORT' of process 0.
    processes, process: the number of processes, and the index of this one, from 0.
    heartbeat: seconds without a heartbeat after which a process counts as lost.
    wait: seconds to wait for all processes to join.
    facts: versions and the like, which must be the same on all processes.
    command: name of the command, for messages.

  While the context is open, this process ends with one sentence and the exit code `watchdog.LOST`
  when another process is lost or stops with an error. It ends in the same way when not all
  processes join within `wait` seconds. A UserError of one process gives all of them its exit code.

  Raises:
    UserError: if the arguments do not go together, nothing is detected, the address cannot be used
      or the facts differ.
    NotJoined: for what may pass: the others do not know yet that a process of before is gone, or
      cannot be reached.
  """
  global _state, _calls
  _check(distributed, coordinator, processes, process)
  if not distributed and coordinator is None:
    for name, kind in (('SLURM_NTASKS', 'SLURM'), ('OMPI_COMM_WORLD_SIZE', 'Open MPI')):
      if (tasks := os.environ.get(name, '')).isdecimal() and int(tasks) > 1:
        print(f'{kind} started {tasks} tasks, and each of them works alone; with --distributed '
              'they work together')
    yield
    return
  prefix = f'{command}: ' if command else ''
  _state = state = _start_jax(coordinator, processes, process, heartbeat, wait, prefix)
  _calls = itertools.count()
  if not watchdog.put(state.client, watchdog.HOST.format(state.process_id), socket.gethostname()):
    other = watchdog.get(state.client, watchdog.HOST.format(state.process_id), 10)
    if distributed or other == socket.gethostname():
      raise NotJoined(f'process {state.process_id} has joined already: if it was started again, '
                      'the others will soon notice that the first is gone, and the same command '
                      'joins')
    raise UserError(f'process {state.process_id} has joined already, on {other}; give each process '
                    f'its own --process, 0 to {state.num_processes - 1}')
  if state.process_id == 0:
    watchdog.put(state.client, 'xmc/processes', str(state.num_processes))
  dog = watchdog.Watchdog(state.client, state.process_id, state.num_processes, heartbeat, prefix)
  try:
    check_same({'--processes': state.num_processes, **facts})
    if state.process_id:
      _silence(state)
    _connect_devices()
    yield
    gather(None)
    dog.stop()
    gather(None)               # every watchdog has stopped, so a process that leaves is not missed
    dog.close()
  except UserError as error:
    dog.report(str(error), error.code)
    raise
  except KeyboardInterrupt:
    watchdog.write(f'{prefix}interrupted')
    dog.report('interrupted')
    os._exit(130)
  except BaseException as error:
    dog.wait_for_all()         # a failed collective is often the first sign of a lost process
    traceback.print_exc()
    dog.report(f'{type(error).__name__}: {" ".join(str(error).split())[:200]}')
    os._exit(1)                # a normal exit would wait for the other processes
  finally:
    _state = None


def gather(value: Any) -> list:
  """The values of all processes, in order, passed as JSON; every process has to call it."""
  if _state is None:
    return [value]
  key = f'xmc/gather/{next(_calls)}'
  watchdog.put(_state.client, f'{key}/{_state.process_id}', json.dumps(value))
  count = int(_read('xmc/processes'))          # as process 0 has it, so that all gather as many
  return [json.loads(_read(f'{key}/{process}')) for process in range(count)]


def check_same(values: dict[str, Any]) -> None:
  """Raises UserError, on every process, unless all processes have the same values."""
  everywhere = gather(values)
  names = dict.fromkeys(name for theirs in everywhere for name in theirs)
  for process, theirs in enumerate(everywhere):
    for name in names:
      first = everywhere[0].get(name)
      if theirs.get(name) != first:
        raise UserError(f'{name} is {theirs.get(name)} on process {process} and {first} on process '
                        '0; start the same command, with the same files, on every host')


def check_shared(folder: str | os.PathLike[str]) -> None:
  """Raises UserError, on every process, unless all of them see the same files in `folder`."""
  if _state is None:
    return
  name = gather(f'.shared_{uuid.uuid4().hex}')[0]
  file, writes = epath.Path(folder) / name, jax.process_index() == 0
  if writes:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('')
  gather(None)                 # the file is written
  blind = [process for process, sees in enumerate(gather(_appears(file))) if not sees]
  if writes:
    file.unlink()
  if blind:
    raise UserError(f'process {", ".join(map(str, blind))} cannot see in {folder} what process 0 '
                    'writes there; give a --workdir on storage that all hosts share')


class Agreement:
  """Whether any process wants something; all processes get the answer at the same step, one later.

  The answer is computed on the devices of `mesh`, behind the step that is running, and fetched at
  the next step, so no process waits for it. With one process the answer is the question.
  """

  def __init__(self, mesh: jax.sharding.Mesh):
    self._several = jax.process_count() > 1
    self._rows = jax.NamedSharding(mesh, jax.P(mesh.axis_names))
    self._any = jax.jit(lambda flags: flags.any(), out_shardings=jax.NamedSharding(mesh, jax.P()))
    self._previous: jax.Array | None = None

  def __call__(self, wanted: bool) -> bool:
    if not self._several:
      return wanted
    previous, flags = self._previous, np.full(jax.local_device_count(), wanted)
    self._previous = self._any(jax.make_array_from_process_local_data(self._rows, flags))
    return previous is not None and bool(previous)


def _check(distributed: bool, coordinator: str | None, processes: int | None,
           process: int | None) -> None:
  flags = {'--coordinator': coordinator, '--processes': processes, '--process': process}
  given = [name for name, value in flags.items() if value is not None]
  missing = [name for name in flags if name not in given]
  if distributed and given:
    raise UserError(f'--distributed detects {given[0]}; give one or the other')
  if given and missing:
    raise UserError(f'{" and ".join(missing)} missing: --coordinator=HOST:PORT, --processes=N and '
                    '--process=I belong together')
  if not given:
    return
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 65536:
    raise UserError(f'--coordinator={coordinator} is not HOST:PORT; give the host of process 0 and '
                    'a port that is free there, such as 10.0.0.1:8476')
  if processes < 1 or not 0 <= process < processes:
    raise UserError(f'--process={process} is not one of --processes={processes}; they count from '
                    f'0 to {processes - 1}')


def _start_jax(coordinator: str | None, processes: int | None, process: int | None,
               heartbeat: float, wait: float, prefix: str) -> Any:
  """Joins the processes; returns JAX's record of them. All that is not JAX's public API is here."""
  os.environ.setdefault('grpc_proxy', '')           # an empty one: connect without a proxy
  watchdog.delay_abort()
  address = coordinator or 'the coordinator'
  if process == 0:
    _check_port(address)

  def give_up():
    watchdog.write(f'{prefix}not all processes joined at {address} within {wait:g} s; check that '
                   'address, and that every process was started, with its own number')
    os._exit(watchdog.LOST)
  timer = threading.Timer(wait, give_up)
  timer.daemon = True
  timer.start()
  local = coordinator and coordinator.startswith(('localhost:', '127.'))
  try:
    from jax._src.distributed import global_state
    jax.config.update('jax_enable_recoverability', True)       # a lost process aborts no other
    # JAX's own handling of SIGTERM would hide it from the training loop.
    jax.config.update('jax_enable_preemption_service', False)
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    jax.config.update('jax_check_proxy_envs', False)
    jax.distributed.initialize(
        coordinator, processes, process, coordinator_bind_address=coordinator if local else None,
        cluster_detection_method='deactivate' if coordinator else None,
        initialization_timeout=int(wait) + 60,      # after the timer, because JAX then aborts
        heartbeat_timeout_seconds=int(heartbeat))
    global_state.client.get_live_nodes              # noqa: B018
  except (ImportError, AttributeError) as error:
    raise UserError(f'jax {jax.__version__} has no recoverable processes ({error}); several '
                    'processes need jax 0.10 to 0.12') from error
  except ValueError as error:
    if any(map(glob.glob, _TPU_FILES)):      # its metadata server may be late
      raise NotJoined(f'this process cannot find the others of its slice ({error})') from error
    raise UserError('--distributed: this is neither Cloud TPU nor a job of SLURM, Kubernetes or '
                    'Open MPI; give --coordinator=HOST:PORT, --processes=N and --process=I'
                    ) from error
  except Exception as error:                        # each kind of cluster has its own kinds
    raise NotJoined(f'this process cannot join the others at {address} ('
                    f'{" ".join(str(error).split())})') from error
  finally:
    timer.cancel()
  return global_state


def _check_port(address: str) -> None:
  """Raises UserError if the port is taken; jaxlib 0.10.2 may crash on it."""
  try:
    socket.create_server(('', int(address.rpartition(':')[2]))).close()
  except OSError as error:
    raise UserError(f'process 0 cannot listen at {address} ({error.strerror}); the coordinator '
                    'must be the host of process 0, with a port that is free there') from error


def _read(key: str) -> str:
  """The value of a key, however long it takes; the watchdog ends a process that waits in vain."""
  while (value := watchdog.get(_state.client, key, 60)) is None:
    pass
  return value


def _connect_devices() -> None:
  """Runs the first collectives now, while no process is much ahead of another.

  On a CPU the first collective over some devices fails if a process is 30 s late for it, because
  it compiles what others find in the cache, say. Later ones wait as long as necessary.
  """
  counts = gather(jax.local_device_count())
  if len(set(counts)) > 1:
    raise UserError(f'the processes have {", ".join(map(str, counts))} devices, and need the same '
                    'number each; start them on equal hosts, or leave devices out, with '
                    'CUDA_VISIBLE_DEVICES for instance')
  multihost_utils.sync_global_devices('joined')        # one device a process, as for checkpoints
  devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
  agreed = Agreement(jax.make_mesh((len(devices),), ('data',), devices=devices))
  agreed(False)                                        # all devices, as for the step
  agreed(False)


def _silence(state: Any) -> None:
  """Prints a last line; afterwards stdout, of libraries too, leads nowhere and only errors show."""
  print(f'process {state.process_id} of {state.num_processes} on {socket.gethostname()} has '
        'joined; process 0 prints the progress', flush=True)
  os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _appears(file: epath.Path) -> bool:
  """Whether `file` becomes visible on this host; shared storage may need a moment."""
  until = time.monotonic() + _SHARED_WITHIN
  while not file.exists():
    if time.monotonic() > until:
      return False
    time.sleep(0.2)
  return True
