"""Scores on disk: one line of JSON for each number, with all that makes it comparable."""
from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import pathlib
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from xmc_jax import __version__
from xmc_jax.evals.scores import Score
from xmc_jax.types import UserError

FILE = 'scores.jsonl'
_LIBRARIES = ('jax', 'jaxlib', 'flax', 'numpy', 'pillow')


def sha256(value: Any) -> str:
  """Of a value's JSON, such as a list of captions."""
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@functools.cache
def environment() -> dict[str, Any]:
  """Versions, device and commit; the commit is None outside a checkout, and '+' marks changes."""
  device = jax.devices()[0]
  return {'xmc_jax': __version__, 'commit': _commit(), 'device': device.device_kind,
          'devices': jax.device_count(),
          **{name: importlib.metadata.version(name) for name in _LIBRARIES}}


def lines(scores: Iterable[Score], manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
  """One dict a score: metric, value, spread, the time, and the whole manifest."""
  now = round(time.time(), 3)
  return [{'metric': s.metric, 'value': s.value, 'spread': s.spread, 'time': now, **manifest}
          for s in scores]


def append(workdir: epath.PathLike, found: Sequence[Mapping[str, Any]]) -> None:
  """Adds lines to the run's scores.jsonl, by process 0 alone; UserError where that fails."""
  if jax.process_index():
    return
  path = epath.Path(workdir) / FILE
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a') as file:
      file.write(''.join(json.dumps(line) + '\n' for line in found))
  except OSError as error:
    raise UserError(f'scores cannot be written to {path} ({error.strerror or error}); give a '
                    'folder that can be written to') from error


def read(workdir: epath.PathLike) -> list[dict[str, Any]]:
  """All lines of a run's scores.jsonl; what a killed run left unfinished is dropped."""
  path = epath.Path(workdir) / FILE
  if not path.exists():
    return []
  whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith('\n')]
  try:
    return [json.loads(line) for line in whole]
  except ValueError as error:
    raise UserError(f'{path} has a line that is not JSON ({error}); mend or remove it') from error


def table(found: Sequence[Mapping[str, Any]]) -> str:
  """Scores as the terminal shows them: metric, value, spread."""
  width = max(len(line['metric']) for line in found)
  return '\n'.join(f'  {line["metric"]:{width}}  {_digits(line["value"])}'
                   + (f' ± {_digits(line["spread"])}' if line['spread'] is not None else '')
                   for line in found)


def refuse_mixed(protocols: Iterable[str], flag: str) -> None:
  """UserError where there is more than one protocol."""
  names = sorted(set(protocols))
  if len(names) > 1:
    raise UserError(f'{" and ".join(names)} are different protocols and their numbers cannot be '
                    f'compared; choose one with {flag}')


def _digits(value: float) -> str:
  return f'{value:.2f}' if abs(value) >= 10 else f'{value:.4f}'


def _commit() -> str | None:
  here = pathlib.Path(__file__).parent
  git = lambda *words: subprocess.run(['git', '-C', here, *words], capture_output=True, text=True,
                                      timeout=10)
  try:
    head, changed = git('rev-parse', 'HEAD'), git('status', '--porcelain', '--', here.parent)
  except (OSError, subprocess.TimeoutExpired):
    return None
  return head.stdout.strip() + '+' * bool(changed.stdout) if not head.returncode else None


def finite(scores: Sequence[Score]) -> None:
  """UserError where a score is no number: then none is worth printing."""
  for score in scores:
    if not np.isfinite(score.value):
      raise UserError(f'{score.metric} came out as {score.value}; no score is printed. Look at the '
                      'images with xmc sample')

