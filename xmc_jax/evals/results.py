"""Scores on disk: one JSON line per number, with everything that makes it comparable."""
from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import pathlib
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from xmc_jax import __version__
from xmc_jax.evals.scores import Score
from xmc_jax.types import NotFinite, UserError
from xmc_jax.utils import json_lines, lock

FILE = 'scores.jsonl'
# Scores are comparable only if all of these agree.
SETTING = ('protocol', 'network', 'resize', 'distance', 'data', 'size', 'fakes', 'reals',
           'reference', 'images', 'seed', 'weights_sha256', 'reference_sha256', 'captions_sha256')
SOA = 'soa'    # in place of a protocol: semantic object accuracy, the same under all of them
BASELINES = ('of real', 'by chance')   # suffixes of metrics without a generator
_LOWER = r'(FI?D|KID)(-.+)?|CMMD|near-duplicates.*'
_HIGHER = (r'(IS|precision|recall|density|coverage)(-.+)?|alignment-\d+|objects: .+|'
           r'(CLIP|DAMSM) .+|SOA.*')
_LIBRARIES = ('jax', 'jaxlib', 'flax', 'numpy', 'pillow')


@functools.cache
def environment() -> dict[str, Any]:
  """Versions, device and commit. The commit is None outside a checkout; '+' marks local changes."""
  device = jax.devices()[0]
  return {'xmc_jax': __version__, 'commit': _commit(), 'device': device.device_kind,
          'devices': jax.device_count(),
          **{name: importlib.metadata.version(name) for name in _LIBRARIES}}


def lines(scores: Iterable[Score], manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
  """One dict per score: metric, value, spread, time, and the whole manifest."""
  return [{'metric': s.metric, 'value': s.value, 'spread': s.spread, 'time': now(), **manifest}
          for s in scores]


def now() -> float:
  return round(time.time(), 3)


def check_writable(workdir: epath.PathLike) -> None:
  """UserError on process 0 unless scores can be appended; called before they are computed."""
  if jax.process_index():
    return
  with _writing(epath.Path(workdir) / FILE):
    pass


def append(workdir: epath.PathLike, found: Sequence[Mapping[str, Any]]) -> None:
  """Appends lines to the scores.jsonl of a run, on process 0 only. UserError if that fails."""
  if jax.process_index():
    return
  path = epath.Path(workdir) / FILE
  with _writing(path):
    json_lines.append(path, found)


@contextlib.contextmanager
def _writing(path: epath.Path) -> Iterator[None]:
  """The turn of this process to write scores; an OSError becomes a UserError that names the file.

  Another process may append at the same time: `evaluate --follow` beside a training.
  """
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock.turn(path.parent / '.scores.lock'):
      json_lines.keep(path)
      yield
  except OSError as error:
    raise UserError(f'{path} cannot be written ({error.strerror or error}); give a writable '
                    'folder') from error


def read(workdir: epath.PathLike) -> list[dict[str, Any]]:
  """All lines of a run's scores.jsonl; UserError as of `json_lines.read`."""
  return json_lines.read(epath.Path(workdir) / FILE)


def table(found: Sequence[Mapping[str, Any]]) -> str:
  """Scores as a table for the terminal: metric, value, spread."""
  width = max(len(line['metric']) for line in found)
  return '\n'.join(f'  {line["metric"]:{width}}  {digits(line["value"])}'
                   + (f' ± {digits(line["spread"])}' if line['spread'] is not None else '')
                   for line in found)


def better(metric: str) -> Callable[[Iterable], Any] | None:
  """`min` or `max`, whichever value of the metric is better; None where neither is."""
  if metric.endswith(BASELINES):
    return None
  return (min if re.fullmatch(_LOWER, metric) else
          max if re.fullmatch(_HIGHER, metric) else None)


def refuse_mixed(protocols: Iterable[str], flag: str) -> None:
  """Raises a UserError that names `flag` if there is more than one protocol."""
  names = sorted(set(protocols))
  if len(names) > 1:
    raise UserError(f'{" and ".join(names)} are different protocols and their scores are not '
                    f'comparable; choose one with {flag}')


def refuse_nonfinite(scores: Sequence[Score]) -> None:
  """Raises NotFinite if a score is NaN or infinite, so that none is reported."""
  for score in scores:
    if not np.isfinite(score.value):
      raise NotFinite(f'{score.metric} came out as {score.value}, so no score is reported; look at '
                      'the images with xmc sample')


def digits(value: float) -> str:
  return f'{value:.2f}' if abs(value) >= 10 else f'{value:.4f}'


def _commit() -> str | None:
  here = pathlib.Path(__file__).parent
  git = lambda *words: subprocess.run(['git', '-C', here, *words], capture_output=True, text=True,
                                      timeout=10)
  try:
    # An installed package may lie inside the checkout of something else, which does not track it.
    tracked = git('ls-files', '--error-unmatch', '--', __file__)
    head, changed = git('rev-parse', 'HEAD'), git('status', '--porcelain', '--', here.parent)
  except (OSError, subprocess.TimeoutExpired):
    return None
  if tracked.returncode or head.returncode:
    return None
  return head.stdout.strip() + '+' * bool(changed.stdout)
