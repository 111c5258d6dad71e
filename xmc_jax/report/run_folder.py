"""What the folder of a training run tells: config, metrics, scores and images, checked."""
from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import re
import statistics
import time
from collections.abc import Sequence
from typing import Any

from etils import epath

from xmc_jax.evals import results
from xmc_jax.types import UserError
from xmc_jax.utils.progress import duration

SPEED = ('images_per_second', 'seconds_per_step', 'waiting_for_data')
_IMAGE = re.compile(r'(.+)_(\d+)\.png')


@dataclasses.dataclass(frozen=True)
class Run:
  """One run. `config` is flat ('model.size'), and empty where the folder has none.

  name      how the page calls it
  metrics   the lines of metrics.jsonl by step, at least one, their values all numbers
  scores    the lines of scores.jsonl, each a dict
  images  {split: [(step, path), ...]} by step
  """
  name: str
  folder: epath.Path
  config: dict[str, Any]
  metrics: list[dict[str, float]]
  scores: list[dict[str, Any]]
  images: dict[str, list[tuple[int, epath.Path]]]

  @property
  def step(self) -> int:
    """The last one that was reported."""
    return int(self.metrics[-1]['step'])

  @functools.cached_property
  def names(self) -> list[str]:
    """Of all metrics, in the order in which they come."""
    names = dict.fromkeys(name for line in self.metrics for name in line)
    return [name for name in names if name not in ('step', 'time')]

  def series(self, name: str) -> tuple[list[float], list[float]]:
    """Steps and values of a metric, where it was reported."""
    found = [(line['step'], line[name]) for line in self.metrics if name in line]
    return [step for step, _ in found], [value for _, value in found]

  def facts(self) -> dict[str, str]:
    """What stands at the head of the page; what is not known is left out."""
    get, total = self.config.get, self.config.get('steps')
    known = {'Method': get('method'), 'Data set': get('data.name'),
             'Images': _with('{} px', get('model.size')),
             'Rows a round': _with('{:,}', get('batch_size')),
             'Steps': f'{self.step:,}' + (f' of {total:,}' if total else ''),
             'State': None if not total else 'finished' if self.step >= total else 'not finished',
             'Training time': _with('about {}', self._hours()),
             'Speed': _with('{} images/s', self._speed()),
             'First report': _date(self.metrics[0].get('time')),
             'Last report': _date(self.metrics[-1].get('time')), **self._measured()}
    return {name: str(value) for name, value in known.items() if value}

  def _hours(self) -> str | None:
    """Time of the steps whose seconds were taken: without compiling, pauses and repeated steps."""
    seconds, before = 0.0, 0.0
    for line in self.metrics:
      seconds += line.get('seconds_per_step', 0.0) * (line['step'] - before)
      before = line['step']
    return duration(seconds) if seconds else None

  def _speed(self) -> str | None:
    speeds = self.series('images_per_second')[1]
    return f'{statistics.median(speeds):,.3g}' if speeds else None

  def _measured(self) -> dict[str, Any]:
    """Device, code and versions: only scores tell them, so they are those of the newest score."""
    if not self.scores:
      return {}
    line = max(self.scores, key=lambda line: line.get('time') or 0)
    devices, commit = line.get('devices'), line.get('commit')
    return {'Scored on': _with(f'{devices} × {{}}' if (devices or 1) > 1 else '{}',
                               line.get('device')),
            'Commit of the scores': commit and commit[:10] + '+' * commit[10:].endswith('+'),
            'xmc_jax of the scores': line.get('xmc_jax')}


def read(workdirs: Sequence[str | os.PathLike[str]]) -> list[Run]:
  """The runs of these folders; names tell them apart.

  UserError where a folder is no run's, is given twice, or holds a line that cannot be read.
  """
  folders = [epath.Path(workdir) for workdir in workdirs]
  if not folders:
    raise UserError('no run was given; name the folder of a training run')
  resolved = [folder.resolve() for folder in folders]
  for folder, same in zip(folders, resolved):
    if resolved.count(same) > 1:
      raise UserError(f'{folder} is given twice; name each run once')
  last = [folder.name or str(folder) for folder in resolved]
  names = [name if last.count(name) == 1 else str(folder) for name, folder in zip(last, folders)]
  return [_read(folder, name) for folder, name in zip(folders, names)]


def flat(tree: dict, prefix: str = '') -> dict[str, Any]:
  """{'model': {'size': 32}} -> {'model.size': 32}."""
  found = {}
  for key, value in tree.items():
    found |= flat(value, f'{prefix}{key}.') if isinstance(value, dict) else {prefix + key: value}
  return found


def _read(folder: epath.Path, name: str) -> Run:
  if not folder.is_dir():
    raise UserError(f'there is no run at {folder}; give the folder of a run that has trained')
  if not (folder / 'metrics.jsonl').exists():
    raise UserError(f'{folder} has no metrics.jsonl; give the folder of a run that has trained')
  metrics = [_numbers(line) for line in _lines(folder / 'metrics.jsonl')]
  if not metrics:
    raise UserError(f'{folder / "metrics.jsonl"} has no report yet; wait for the first one')
  return Run(name, folder, _config(folder / 'config.json'),
             sorted(metrics, key=lambda line: line['step']), _scores(folder), _images(folder))


def _text(path: epath.Path) -> str:
  try:
    return path.read_text()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'{path} cannot be read ({error}); mend or remove it') from error


def _lines(path: epath.Path) -> list[dict]:
  """Lines of a metrics file; one that a killed run left unfinished is dropped."""
  found = []
  for i, line in enumerate(_text(path).splitlines(keepends=True), 1):
    if line.endswith('\n'):
      try:
        found.append(json.loads(line))
        if not math.isfinite(found[-1]['step']):
          raise ValueError('step')
      except (ValueError, TypeError, KeyError) as error:
        raise UserError(f'{path}, line {i}, is not a line of metrics; mend or remove it'
                        ) from error
  return found


def _numbers(line: dict) -> dict[str, float]:
  return {key: value for key, value in line.items()
          if isinstance(value, (int, float)) and not isinstance(value, bool)
          and math.isfinite(value)}


def _scores(folder: epath.Path) -> list[dict[str, Any]]:
  try:
    found = results.read(folder)
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'{folder / results.FILE} cannot be read ({error}); mend or remove it'
                    ) from error
  if not all(isinstance(line, dict) for line in found):
    raise UserError(f'{folder / results.FILE} has a line that is no score; mend or remove it')
  return found


def _config(path: epath.Path) -> dict[str, Any]:
  if not path.exists():
    return {}
  try:
    return flat(json.loads(_text(path)))
  except (ValueError, AttributeError) as error:
    raise UserError(f'{path} is not the config of a run ({error}); mend or remove it') from error


def _images(folder: epath.Path) -> dict[str, list[tuple[int, epath.Path]]]:
  """Held-out captions first, then those of training."""
  found: dict[str, list[tuple[int, epath.Path]]] = {}
  for path in sorted((folder / 'images').glob('*.png')):
    if match := _IMAGE.fullmatch(path.name):
      found.setdefault(match[1], []).append((int(match[2]), path))
  return {split: sorted(found[split]) for split in sorted(found)}


def _with(form: str, value: Any) -> str | None:
  return None if value is None else form.format(value)


def _date(seconds: float | None) -> str | None:
  return seconds and time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(seconds))
