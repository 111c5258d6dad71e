"""Checkpoints of a training run on disk; with `durable.py` the only file that imports orbax."""
from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint._src.metadata import array_metadata_store

from xmc_jax.training import durable
from xmc_jax.types import Tree, UserError
from xmc_jax.utils import regular

DAMAGED = '.damaged'      # suffix of the folder of a checkpoint that was set aside

# Replicas divide large arrays among themselves and write their parts at once. There is a program to
# compile for each part of each shape, which for small arrays takes longer than to write them. The
# store holds what kind a typed random key is; orbax has no public name for it.
_ARRAYS = ocp.type_handlers.create_type_handler_registry(
    (jax.Array, ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=1 << 20,
                                               array_metadata_store=array_metadata_store.Store())))


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
  """The context in which absl logs nothing but errors."""
  before = logging.get_verbosity()
  logging.set_verbosity(min(before, logging.ERROR))
  try:
    yield
  finally:
    logging.set_verbosity(before)


class Checkpoints(contextlib.AbstractContextManager):
  """The checkpoints in `directory`, one folder per step with the items `state` and `meta`.

  `every` is the number of steps between two saves. The `keep` newest stay, and those of multiples
  of `keep_every`, if it is not 0, and of the step `best`, which may be set at any time; what it no
  longer names goes with the next save or with `prune`. With `every=None` it only reads: it creates
  no folder, deletes none and may watch a run in progress.

  A folder under its final name is complete and, on a local disk, flushed: see `durable.py`.
  Leftovers of an unfinished save are never read, and no file is read whose checksum is wrong.
  Saving continues in the background; use this as a context manager, or call `close()` before the
  process ends. In a run of several processes each of them calls every method. UserError if the
  directory cannot be created or written to.
  """

  def __init__(self, directory: str | os.PathLike[str], *, every: int | None, keep: int = 3,
               keep_every: int = 0):
    self.best: int | None = None
    self._keep, self._keep_every = keep, keep_every
    self.directory = epath.Path(directory).resolve()
    self._every = every
    if every is not None:
      with self._writing():
        self.directory.mkdir(parents=True, exist_ok=True)
        if '://' not in str(self.directory) and not os.access(self.directory, os.W_OK):
          raise PermissionError('no permission')
    self._local = '://' not in str(self.directory)
    self._intact: set[int] = set()      # steps whose checksums were right
    options = ocp.CheckpointManagerOptions(
        save_interval_steps=0 if every is None else 1, create=False,
        preservation_policy=self, read_only=every is None,
        cleanup_tmp_directories=every is not None,
        temporary_path_class=durable.DurableTemporaryPath if self._local else None)
    with _without_warnings():      # that the directory is only read, as was asked for
      self._manager = ocp.CheckpointManager(
          self.directory, options=options,
          item_handlers={'state': ocp.PyTreeCheckpointHandler(type_handler_registry=_ARRAYS),
                         'meta': ocp.JsonCheckpointHandler()})

  def __exit__(self, *_: Any) -> None:
    self.close()

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
    """Which of the checkpoints, the oldest first, stay; orbax asks it when one is saved."""
    del context
    return self._kept([checkpoint.step for checkpoint in checkpoints])

  def _kept(self, steps: list[int]) -> list[bool]:
    return [step in steps[-self._keep:] or step == self.best
            or bool(self._keep_every) and step % self._keep_every == 0 for step in steps]

  def steps(self) -> list[int]:
    """Steps of the complete checkpoints, ascending; looks at the disk."""
    self.wait()
    self._manager.reload()
    return sorted(self._manager.all_steps())

  def saved(self, step: int) -> float:
    """When the checkpoint of `step` was completed, in seconds since the epoch."""
    return regular.size_and_time(self.directory / str(step))[1]

  def latest(self) -> int | None:
    """Step of the newest complete checkpoint, None where there is none; looks at the disk."""
    return max(self.steps(), default=None)

  def set_aside_damaged(self) -> list[str]:
    """Renames damaged checkpoints that are newer than the newest intact one; says what it did.

    They become `STEP.damaged.N`, so that training continues from the intact one. Call it in one
    process only, before any other method. UserError if none is intact or one cannot be read now,
    and then none is renamed.
    """
    said, damaged = [], {}
    for step in reversed(self.steps()):
      with self._reading(step):
        wrong = durable.damage(self.directory / str(step)) if self._local else None
      if wrong is None:
        self._intact.add(step)
        break
      damaged[step] = wrong
    if damaged and not self._intact:
      step, wrong = next(iter(damaged.items()))
      raise UserError(f'all checkpoints in {self.directory} are damaged, the newest, of step '
                      f'{step}: {wrong}; put a copy back, or delete that folder to begin again at '
                      'step 1')
    for step, wrong in damaged.items():
      folder = self.directory / str(step)
      aside = next(path for n in itertools.count(1)
                   if not (path := self.directory / f'{step}{DAMAGED}.{n}').exists())
      folder.rename(aside)
      said.append(f'the checkpoint of step {step} is damaged ({wrong}) and was renamed to {aside}')
    self._manager.reload()
    return said

  def restore(self, abstract_state: Tree, step: int | None = None) -> Tree:
    """The state of `step` (the newest by default), bit for bit, in the form of `abstract_state`.

    `abstract_state` is the state's tree with a ShapeDtypeStruct with sharding at each leaf; typed
    random keys are leaves like others. Every leaf comes back as a committed array of that sharding,
    whatever devices it was saved from. UserError if there is no such checkpoint, if it is damaged
    or of another model.
    """
    step = self.check(abstract_state, step)
    return self._read_state(step, abstract_state, partial=False)

  def check(self, abstract_state: Tree, step: int | None = None) -> int:
    """The step that `restore` would read; UserError as there, without reading the arrays."""
    step = self._choose(step)
    self._compare(step, abstract_state, self._stored(step))
    return step

  def restore_sampler(
      self, abstract: Mapping[str, Tree], step: int | None = None, *, network: str = 'g',
      live: bool = False,
  ) -> dict[str, Tree]:
    """What sampling needs of `network`, {'params': ..., 'stats': ...}, reading nothing else.

    `abstract` has the same two keys and ShapeDtypeStructs with shardings. The parameters are the
    averaged ones, or those of the last step with `live=True` or where the run keeps no average; the
    statistics are always those of the last step. UserError as in `restore`.
    """
    step = self._choose(step)
    stored = self._stored(step)
    if live or not any(name.startswith(f'ema/{network}/') for name in stored):
      wanted = {'networks': {network: dict(abstract)}}
      inside = (f'networks/{network}/params/', f'networks/{network}/stats/')
    else:
      wanted = {'ema': {network: abstract['params']},
                'networks': {network: {'stats': abstract['stats']}}}
      inside = (f'ema/{network}/', f'networks/{network}/stats/')
    self._compare(step, wanted, {k: v for k, v in stored.items() if k.startswith(inside)})
    found = self._read_state(step, wanted, partial=True)
    return {'params': found.get('ema', {}).get(network), **found['networks'][network]}

  def meta(self, step: int | None = None) -> dict[str, Any]:
    """What was saved beside the state of `step` (the newest by default); UserError as above."""
    step = self._choose(step)
    with self._reading(step):
      return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta

  def save(self, step: int, state: Tree, meta: Mapping[str, Any], force: bool = False) -> bool:
    """Starts to save where `step` is a multiple of `every` or `force`; True if it did.

    A step that is on disk already is not saved again. The arrays are copied before this returns,
    so `state` may be donated to the next step at once. `meta` must be writable as JSON (TypeError).
    UserError where this save, or the one before it in the background, could not be written.
    """
    if self._every is None:
      raise ValueError('these checkpoints are open for reading only')
    if not (force or step % self._every == 0) or step in self._manager.all_steps():
      return False
    items = ocp.args.Composite(state=ocp.args.PyTreeSave(state),
                               meta=ocp.args.JsonSave(json.loads(json.dumps(dict(meta)))))
    with self._writing():
      if not self.directory.is_dir():  # orbax would wait for minutes before it says so
        raise NotADirectoryError('it is gone')
      return bool(self._manager.save(step, args=items, force=True))

  def wait(self) -> None:
    """Returns when all that was saved is on disk; UserError where that failed."""
    with self._writing():
      self._manager.wait_until_finished()

  def prune(self) -> None:
    """Waits as `wait` does, and deletes what need not stay; otherwise only `save` does that."""
    self.wait()
    # As this process knows them: a look at the disk might tell each of several something else.
    steps = sorted(self._manager.all_steps())
    with self._writing():
      for step, kept in zip(steps, self._kept(steps), strict=True):
        if not kept:
          self._manager.delete(step)

  def close(self) -> None:
    """Waits and lets go of the directory; UserError where a save failed."""
    with self._writing():
      self._manager.close()

  def _choose(self, step: int | None) -> int:
    steps = self.steps()
    if not steps:
      raise UserError(f'there is no checkpoint in {self.directory}; give the --workdir of a run '
                      'that has saved one')
    if step is not None and step not in steps:
      raise UserError(f'there is no checkpoint of step {step} in {self.directory}; choose one of '
                      f'{", ".join(map(str, steps))}')
    step = steps[-1] if step is None else step
    if self._local and step not in self._intact and jax.process_index() == 0:
      with self._reading(step):
        if wrong := durable.damage(self.directory / str(step)):
          raise OSError(wrong)
      self._intact.add(step)
    return step

  def _stored(self, step: int) -> dict[str, str]:
    """What the state of `step` holds, {'networks/g/params/...': '[3, 4] float32'}."""
    with self._reading(step):
      metadata = self._manager.item_metadata(step).state
      if metadata is None:
        raise FileNotFoundError('state/_METADATA is not there')
      return _leaves(metadata.tree)

  def _compare(self, step: int, abstract: Tree, stored: dict[str, str]) -> None:
    expected = _leaves(jax.tree.map(_as_stored, abstract))
    differing = [name for name in sorted(expected.keys() | stored.keys())
                 if expected.get(name) != stored.get(name)]
    if differing:
      shown = '; '.join(f'{name} is {stored.get(name, "absent")} there and '
                        f'{expected.get(name, "absent")} here' for name in differing[:3])
      raise UserError(
          f'the checkpoint of step {step} in {self.directory} is of another model ({shown}; leaves '
          f'that differ: {len(differing)}); give another --workdir, or the --config with which '
          'that run was started')

  def _read_state(self, step: int, abstract: Tree, partial: bool) -> Tree:
    restore_args = ocp.checkpoint_utils.construct_restore_args(abstract)
    args = ocp.args.PyTreeRestore(abstract, restore_args=restore_args, partial_restore=partial)
    with self._reading(step):
      return self._manager.restore(step, args=ocp.args.Composite(state=args)).state

  @contextlib.contextmanager
  def _reading(self, step: int) -> Iterator[None]:
    try:
      yield
    except jax.errors.JaxRuntimeError:  # the device's fault (its memory, say), not the files'
      raise
    except durable.Unreadable as error:
      raise UserError(f'the checkpoint of step {step} in {self.directory} cannot be read '
                      f'({_reason(error)}); mend that and give the same command again') from error
    except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
      if not (self.directory / str(step)).exists():
        raise UserError(f'the checkpoint of step {step} has been deleted from {self.directory} '
                        'while it was read, as a training does with old ones; give a newer --step, '
                        'or train with more of them kept, --config.keep') from error
      before = max((s for s in self._manager.all_steps() if s < step), default=None)
      then = ('train from the beginning' if before is None else
              f'resume from the previous complete checkpoint, step {before}')
      raise UserError(
          f'the checkpoint of step {step} is damaged, see {self.directory / str(step)} '
          f'({_reason(error)}); delete that folder to {then}') from error

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    try:
      yield
    except (OSError, ValueError) as error:  # tensorstore says ValueError for a full disk
      raise UserError(f'a checkpoint could not be written to {self.directory} ({_reason(error)}); '
                      'make room on its disk, or give a --workdir that can be written to'
                      ) from error


def _reason(error: Exception) -> str:
  """What orbax or the system says of a failure, without the dump that tensorstore appends."""
  text = ' '.join(str(error.__cause__ or error).split('[tensorstore_spec')[0].split())
  full = os.strerror(errno.ENOSPC)
  return full if full in text else text[:200]


def _as_stored(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
  """The array that orbax writes for `leaf`: itself, or the words of a typed random key."""
  typed_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return jax.eval_shape(jax.random.key_data, leaf) if typed_key else leaf


def _leaves(tree: Tree) -> dict[str, str]:
  """Name of each leaf, parts joined by '/', and its shape and dtype in words."""
  return {jax.tree_util.keystr(path, simple=True, separator='/'):
          f'{list(leaf.shape)} {jax.numpy.dtype(leaf.dtype)}'
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
