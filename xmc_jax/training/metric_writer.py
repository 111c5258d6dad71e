"""Reports of a training run: terminal, metrics.jsonl and TensorBoard. Only here is clu used."""
from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from xmc_jax.types import Array, UserError
from xmc_jax.utils import disk, json_lines
from xmc_jax.utils.image_io import save_png
from xmc_jax.utils.progress import duration


class NonFinite(UserError):
  """A loss became infinite or not a number; the message names it and the step."""


class Reporter:
  """Writes metrics of a run to TensorBoard, to `workdir`/metrics.jsonl and to the terminal.

  Steps count from 1 to `total_steps`; `start` is the step resumed from, 0 in a new run. Lines of
  metrics.jsonl after `start` belong to steps that are done again and are dropped, so that the file
  is one history. A report is due at the first step, at multiples of `every` and at the last step;
  it holds each metric's mean since the report before, with `rows_per_step` rows counted as images.

  In a run of several processes each of them calls every method: all stop at a metric that is not
  finite, process 0 alone writes. UserError where `workdir` cannot be written to.
  """

  def __init__(
      self, workdir: str | os.PathLike[str], *, total_steps: int, rows_per_step: int, every: int,
      start: int = 0,
  ) -> None:
    self._workdir = epath.Path(workdir)
    self._total_steps, self._rows, self._every = total_steps, rows_per_step, every
    self._first = start + 1
    self._writes = jax.process_index() == 0
    self._pending: tuple[int, Mapping[str, Array]] | None = None
    self._window: list[dict[str, float]] = []
    self._window_end = start     # last step in the window
    self._waited = 0.0           # seconds of waiting for data in the window
    self._timed = False          # whether the window began after the compiling step
    self._began = time.perf_counter()
    self._board: Board | None = None
    if self._writes:
      try:
        self._workdir.mkdir(parents=True, exist_ok=True)
        json_lines.keep(self._workdir / 'metrics.jsonl', lambda line: _step_of(line) <= start)
      except OSError as error:
        raise UserError(f'--workdir: cannot write to {self._workdir} '
                        f'({error.strerror or error}); give a folder that you may write to'
                        ) from error
      self._board = Board(self._workdir / 'tensorboard')

  def step(self, step: int, metrics: Mapping[str, Array], waited: float) -> None:
    """Takes the scalars of `step`, just dispatched, and `waited`, seconds spent on its batch.

    The metrics of the step before are fetched now, those of this step at the next call, so that
    the host never waits for the step in flight. NonFinite if one of the fetched is not finite.
    """
    self._waited += waited
    self.settle()
    self._pending = step, metrics

  def settle(self) -> None:
    """Waits for the step last given, and reports it where a report is due; may raise NonFinite."""
    if self._pending is None:
      return
    step, metrics = self._pending
    self._pending = None
    values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
    self._check(step, values)
    self._window.append(values)
    self._window_end = step
    if step in (self._first, self._total_steps) or step % self._every == 0:
      self._report()

  def images(self, step: int, grid: np.ndarray, name: str) -> None:
    """Writes uint8 [H, W, 3] to `workdir`/images/NAME_STEP.png and to TensorBoard."""
    if self._writes:
      save_png(self._workdir / 'images' / f'{name}_{step:08d}.png', grid)
      if self._board is not None:
        self._board.images(step, {name: grid[None]})

  def scores(self, step: int, values: Mapping[str, float]) -> None:
    """Writes scores of an evaluation to TensorBoard."""
    if self._board is not None:
      self._board.scalars(step, values)

  def leave_out(self, seconds: float) -> None:
    """Time since the report before in which there was no training; it does not count as slow."""
    self._began += seconds

  def close(self) -> None:
    """Settles the last step, reports what no report holds yet, and closes the files."""
    try:
      self.settle()
    finally:
      if self._window:
        self._report()
      if self._board is not None:
        self._board.close()
        self._board = None

  def _check(self, step: int, values: Mapping[str, float]) -> None:
    # A total is not finite because one of its losses is not, which is the more useful name.
    for name in sorted(values, key=lambda name: name.endswith('_loss')):
      if not math.isfinite(values[name]):
        raise NonFinite(
            f'{name} is {values[name]} at step {step:,}, so training stopped; the last checkpoint '
            f'in {self._workdir} is unchanged: lower the learning rate or the weight of that loss '
            'in the config and run the same command to continue from there')

  def _report(self) -> None:
    """Writes the means of the window and begins the next one."""
    now = time.perf_counter()
    step, seconds = self._window_end, now - self._began
    means = {name: sum(v[name] for v in self._window) / len(self._window)
             for name in self._window[-1]}
    speed = {}
    if self._timed:
      speed = {'images_per_second': len(self._window) * self._rows / seconds,
               'seconds_per_step': seconds / len(self._window),
               'waiting_for_data': min(1.0, self._waited / seconds)}
    self._window, self._waited, self._timed, self._began = [], 0.0, True, now
    if not self._writes:
      return
    line = {'step': step, 'time': round(time.time(), 3), **means, **speed}
    # Flushed: a checkpoint that survives a power cut has the lines before it.
    json_lines.append(self._workdir / 'metrics.jsonl', [line])
    if self._board is not None:
      self._board.scalars(step, {**means, **speed})
    parts = [f'step {step:,}/{self._total_steps:,}', *_losses(means)]
    if speed:
      left = (self._total_steps - step) * speed['seconds_per_step']
      parts += [f'{_three_digits(speed["images_per_second"])} images/s',
                f'data {speed["waiting_for_data"]:.0%}'.replace('%', ' %'),
                f'left {duration(left)}']
    else:
      parts.append(f'first step after {duration(seconds)}')
    print('  '.join(parts), flush=True)


class Board(contextlib.AbstractContextManager):
  """TensorBoard's files in `folder`, written by process 0 alone; UserError if that fails."""

  def __init__(self, folder: epath.Path):
    self._folder = folder
    with self._writing():
      self._writer = _board(folder) if jax.process_index() == 0 else None

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    if self._writer is not None:
      with self._writing():
        self._writer.write_scalars(step, dict(values))

  def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    if self._writer is not None:
      with self._writing():
        self._writer.write_images(step, images)

  def flush(self) -> None:
    if self._writer is not None:
      with self._writing():
        self._writer.flush()

  def close(self) -> None:
    if self._writer is not None:
      with self._writing():
        self._writer.close()

  def __exit__(self, *_: Any) -> None:
    self.close()

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    """Gives errors of the thread that writes, which clu wraps, and of TensorFlow one sentence."""
    try:
      yield
    except OSError:      # is told as others are
      raise
    except Exception as error:
      text = re.sub(r'{{.*?}}|\[Op:.*', '', f'{error} {error.__cause__}')      # TensorFlow's own
      full = next((os.strerror(kind) for kind in disk.FULL if os.strerror(kind) in text), None)
      why = full or ' '.join(text.split())[:200]
      raise UserError(f'{self._folder} cannot be written ({why}); make room on that disk, or '
                      'remove what is in the way, and run the same command again') from error


def _losses(means: Mapping[str, float]) -> list[str]:
  """'d 1.83' for each 'PHASE/d_loss'; 'PHASE/d 1.83' where several phases have a loss of d."""
  names = [name for name in means if name.endswith('_loss')]
  short = [name.rpartition('/')[2] for name in names]
  shown = [s if short.count(s) == 1 else name for name, s in zip(names, short)]
  return [f'{s.removesuffix("_loss")} {means[name]:.2f}' for name, s in zip(names, shown)]


def _three_digits(value: float) -> str:
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def _step_of(line: bytes) -> float:
  try:
    step = json.loads(line)['step']
  except (ValueError, KeyError, TypeError):
    return math.inf
  return step if isinstance(step, int) else math.inf


def _board(folder: epath.Path) -> Any:
  """A TensorBoard writer, or None where what it needs is not installed."""
  try:
    # Here, because it takes seconds: clu brings tensorflow along.
    from clu import metric_writers
  except ImportError as error:
    print(f"TensorBoard files are not written ({error}; pip install 'xmc_jax[train]' changes "
          'that); metrics.jsonl is', flush=True)
    return None
  return metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(folder)))
