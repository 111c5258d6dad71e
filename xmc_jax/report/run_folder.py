"""Reads and checks the folder of a training run: config, metrics, scores and images."""
from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import statistics
import time
from collections.abc import Sequence
from typing import Any

from etils import epath

from xmc_jax.evals import results
from xmc_jax.types import UserError
from xmc_jax.utils import json_lines, regular
from xmc_jax.utils.progress import duration

_LARGEST = 1e30


@dataclasses.dataclass(frozen=True)
class Run:
  """One run.

  name: how the report calls it.
  config: with dotted keys ('model.size'); empty if the folder has no config.json.
  metrics: the lines of metrics.jsonl in order of steps, at least one; all values are finite.
  scores: the lines of scores.jsonl.
  images: {split: [(step, path), ...]}, in order of steps.
  """
  name: str
  folder: epath.Path
  config: dict[str, Any]
  metrics: list[dict[str, float]]
  scores: list[dict[str, Any]]
  images: dict[str, list[tuple[int, epath.Path]]]

  def series(self, name: str) -> tuple[list[float], list[float]]:
    """Steps and values of a metric, where it was reported."""
    found = [(line['step'], line[name]) for line in self.metrics if name in line]
    return [step for step, _ in found], [value for _, value in found]

  def facts(self) -> dict[str, str]:
    """The facts at the top of the report; unknown ones are left out."""
    get, step, total = self.config.get, int(self.metrics[-1]['step']), self.config.get('steps')
    # Sums the measured steps only, so compilation, pauses and repeated steps do not count.
    # The first line is as long as the next, at most: an imported run does not begin at step 0.
    steps = [line['step'] for line in self.metrics]
    befores = [max(0, 2 * steps[0] - steps[1]) if len(steps) > 1 else 0, *steps]
    seconds = sum(line.get('seconds_per_step', 0.0) * (line['step'] - before)
                  for line, before in zip(self.metrics, befores))
    speeds = self.series('images_per_second')[1]
    score = max(self.scores, key=lambda line: line.get('time') or 0, default={})
    devices, device, commit = map(score.get, ('devices', 'device', 'commit'))
    known = {
        'Method': get('method'), 'Data set': get('data.name'),
        'Image size': get('model.size') and f'{get("model.size")} px',
        'Batch size': get('batch_size'),
        'Steps': f'{step:,} of {total:,}' if total else f'{step:,}',
        'State': total and ('finished' if step >= total else 'unfinished'),
        'Training time': seconds and f'about {duration(seconds)}',
        'Speed': speeds and f'{statistics.median(speeds):,.3g} images/s',
        'First metrics': _date(self.metrics[0]), 'Last metrics': _date(self.metrics[-1]),
        'Evaluated on': f'{devices} × {device}' if device and (devices or 1) > 1 else device,
        'Commit of the scores': commit and commit[:10] + '+' * commit[10:].endswith('+'),
        'Version of the scores': score.get('xmc_jax')}
    return {name: str(value) for name, value in known.items() if value}


def read(workdirs: Sequence[str | os.PathLike[str]]) -> list[Run]:
  """Reads the runs in these folders; runs with the same folder name are named by their path.

  Raises:
    UserError: a folder is not a run or is given twice, or one of its files is damaged.
  """
  folders = [epath.Path(workdir).expanduser() for workdir in workdirs]
  if not folders:
    raise UserError('xmc report: no run given, give the folder of a training run')
  resolved = [folder.resolve() for folder in folders]
  if doubled := [f for f, path in zip(folders, resolved) if resolved.count(path) > 1]:
    raise UserError(f'{doubled[0]}: given twice, name each run once')
  last = [folder.name or str(folder) for folder in resolved]
  return [_read(folder, name if last.count(name) == 1 else str(folder))
          for name, folder in zip(last, folders)]


def flat(tree: dict, prefix: str = '') -> dict[str, Any]:
  """{'model': {'size': 32}} -> {'model.size': 32}."""
  found = {}
  for key, value in tree.items():
    found |= flat(value, f'{prefix}{key}.') if isinstance(value, dict) else {prefix + key: value}
  return found


def _read(folder: epath.Path, name: str) -> Run:
  if not (folder / 'metrics.jsonl').exists():
    what = 'has no metrics.jsonl' if folder.is_dir() else 'there is no run here'
    raise UserError(f'{folder}: {what}, give the folder of a run that has started training')
  metrics = json_lines.read(folder / 'metrics.jsonl', _check_metrics)
  if not metrics:
    raise UserError(f'{folder / "metrics.jsonl"}: no metrics yet, wait for the first report')
  numbers = [{key: value for key, value in line.items() if is_number(value)} for line in metrics]
  return Run(name, folder, _config(folder / 'config.json'),
             sorted(numbers, key=lambda line: line['step']),
             json_lines.read(folder / results.FILE, _check_score), _images(folder))


def _config(path: epath.Path) -> dict[str, Any]:
  try:
    settings = flat(json.loads(regular.read(path))) if path.exists() else {}
    _check_types(settings, {'steps': int, 'batch_size': int, 'grid': int, 'model.size': int})
  except (OSError, ValueError, AttributeError, RecursionError) as error:
    raise UserError(f'{path}: cannot be read ({error}), fix or remove it') from error
  return settings


def _check_metrics(line: dict[str, Any]) -> None:
  if not is_number(line.get('step')):
    raise ValueError(f'its step is {line.get("step")!r}')


def _check_score(line: dict[str, Any]) -> None:
  _check_types(line, {'time': int | float, 'devices': int, 'commit': str, 'differs': list})
  if not all(isinstance(words, str) for words in line.get('differs') or ()):
    raise ValueError(f'differs is {line["differs"]!r}')


def _check_types(found: dict[str, Any], types: dict[str, Any]) -> None:
  """ValueError for a value of another type, as another program may have written it."""
  for key, kind in types.items():
    if not isinstance(found.get(key), kind | None):
      raise ValueError(f'{key} is {found[key]!r}')


def is_number(value: Any) -> bool:
  """Whether it is a finite number, small enough for a chart and a date."""
  return (isinstance(value, (int, float)) and not isinstance(value, bool)
          and abs(value) < _LARGEST)


def _images(folder: epath.Path) -> dict[str, list[tuple[int, epath.Path]]]:
  found: dict[str, list[tuple[int, epath.Path]]] = {}
  for path in sorted((folder / 'images').glob('*.png')):
    if match := re.fullmatch(r'(.+)_(\d+)\.png', path.name):
      found.setdefault(match[1], []).append((int(match[2]), path))
  return {split: sorted(images) for split, images in sorted(found.items())}


def _date(line: dict[str, float]) -> str | None:
  with contextlib.suppress(KeyError, OverflowError, OSError, ValueError):      # no date, or none
    return time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(line['time']))
