"""A trace of some training steps, for TensorBoard's profiler and XProf."""
from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Generator, Iterator

import jax
from etils import epath


@contextlib.contextmanager
def recorded(folder: str | os.PathLike[str]) -> Iterator[None]:
  """Records what the devices of this process do in the block, those that are still busy included.

  The files go to `folder`, which may be in a bucket.
  """
  with tempfile.TemporaryDirectory() as local:
    _settle()
    try:
      with jax.profiler.trace(local):
        try:
          yield
        finally:
          _settle()
    finally:                   # also where the run ends early
      _copy(pathlib.Path(local), epath.Path(folder))


def _copy(local: pathlib.Path, folder: epath.Path) -> None:
  for file in local.rglob('*'):
    if file.is_file():
      target = folder / file.relative_to(local).as_posix()
      target.parent.mkdir(parents=True, exist_ok=True)
      target.write_bytes(file.read_bytes())
  print(f'the profile is in {folder}: tensorboard --logdir {folder}', flush=True)


def _settle() -> None:
  """Waits for all that the devices have been given: they take one thing after the other."""
  jax.block_until_ready([jax.device_put(0, device) + 1 for device in jax.local_devices()])


def steps(numbers: range, chosen: tuple[int, int] | None, folder: str | os.PathLike[str]
          ) -> Generator[int, None, None]:
  """Yields the `numbers` of training steps and records those from `chosen[0]` to `chosen[1]`.

  Process 0 alone records; close the iterator when a run ends early. The body of the loop is one
  step of the trace.
  """
  if chosen and (chosen[1] < numbers.start or chosen[0] >= numbers.stop):
    print(f'nothing is profiled: this run has no steps {chosen[0]:,} to {chosen[1]:,} to do')
  with contextlib.ExitStack() as recording:
    for step in numbers:
      inside = chosen is not None and chosen[0] <= step <= chosen[1] and jax.process_index() == 0
      if inside and (step == chosen[0] or step == numbers.start):
        recording.enter_context(recorded(folder))
      with jax.profiler.StepTraceAnnotation('train', step_num=step):
        yield step
      if inside and step == chosen[1]:
        recording.close()
