"""`xmc report RUN`: one self-contained HTML file about one training run or several."""
from __future__ import annotations

import functools
import importlib
import itertools
import json
import pkgutil
import re
import time
from collections.abc import Sequence
from typing import Any

from etils import epath

from xmc_jax import config, methods
from xmc_jax.evals import results
from xmc_jax.report import curves, drawn, headline, pictures, run_folder, score_tables
from xmc_jax.report.curves import Chart, Line
from xmc_jax.report.run_folder import Run
from xmc_jax.types import UserError
from xmc_jax.utils import atomic

_SPEED = {'images_per_second': ('Speed', 'images/s'), 'seconds_per_step': ('Step time', 's'),
          'waiting_for_data': ('Waiting for data', 'share of the time')}
# Control characters and lone surrogates, which HTML must not contain.
_UNPRINTABLE = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]')


def report(workdirs: Sequence[str], out: str | None = None, across_protocols: bool = False, *,
           captions: Sequence[str] = (), draw: int = drawn.COUNT, data: str | None = None,
           text_encoder: str | None = None) -> epath.Path:
  """Writes the report and returns its path.

  Args:
    workdirs: folders of runs; several runs share their charts and tables.
    out: output file; None: report.html in the run's folder, or comparison.html in the first one's.
    across_protocols: allow runs that have no evaluation protocol in common.
    captions: of images that the runs draw for the page.
    draw: how many held-out captions they draw too.
    data: folder of the runs' prepared data, if it is not where their configs say.
    text_encoder: folder of the runs' text encoder, if it is not where their configs say.

  Raises:
    UserError: a run or one of its files is missing or damaged, the runs have no protocol in common,
      a caption is not one that the text encoder can read, `out` cannot be written, or the extra
      `report` is not installed.
  """
  try:
    import jinja2
    import matplotlib  # noqa: F401
  except ModuleNotFoundError as error:
    raise UserError(f"xmc report: {error.name} is not installed, run `pip install "
                    "'xmc_jax[report]'`") from error
  runs = run_folder.read(workdirs)
  used = [{str(x.get('protocol', 'unknown')) for x in run.scores if score_tables.is_score(x)}
          for run in runs]
  used = [protocols - {results.SOA} for protocols in used]
  used = [protocols for protocols in used if protocols]
  mixed = sorted(set.union(*used)) if used and not set.intersection(*used) else []
  if mixed and not across_protocols:
    results.refuse_mixed(mixed, '`xmc evaluate --protocol`, or allow them beside each other with '
                         '--across_protocols')
  scores = {run.name: run.scores for run in runs}
  sections, other = score_tables.sections(scores)
  grids = [grid for run in runs for grid in pictures.grids(run, len(runs) > 1)]
  cards, notes = drawn.cards(runs, captions, draw, data, text_encoder)
  facts = [run.facts() for run in runs]
  prefixes = (f'chart{i}-' for i in itertools.count())
  # The template is part of the code, its values are not: all are escaped, but for the drawings.
  environment = jinja2.Environment(
      loader=jinja2.PackageLoader('xmc_jax', ''), autoescape=True, trim_blocks=True,
      lstrip_blocks=True, undefined=jinja2.StrictUndefined)
  environment.filters |= {'svg': lambda chart: curves.svg(chart, next(prefixes)),
                          'number': score_tables.number}
  page = environment.get_template('report/report.html.j2').render(
      runs=runs, mixed=mixed, cards=cards, notes=notes, grids=grids,
      sentence=headline.sentence(scores), shares=headline.shares(scores),
      charts=_charts(runs), sections=sections, other=other,
      facts=[(name, *(found.get(name, '–') for found in facts))
             for name in dict.fromkeys(itertools.chain(*facts))],
      settings=_settings(runs), now=time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime()))
  path = epath.Path(out) if out else runs[0].folder / (
      'report.html' if len(runs) == 1 else 'comparison.html')
  try:
    atomic.save(path, _UNPRINTABLE.sub('\ufffd', page))
  except OSError as error:
    raise UserError(f'--out={path}: cannot be written ({error.strerror or error}), choose another '
                    'place') from error
  return path


def _charts(runs: Sequence[Run]) -> list[Chart]:
  """All metrics: related metrics of one run share a chart; several runs share one per metric."""
  names = {name for run in runs for line in run.metrics for name in line} - {'step', 'time'}
  groups: dict[tuple, dict[str, str]] = {}   # {(rank, title, unit): {metric: label}}
  for rank, title, unit, label, name in sorted(_place(name, names) for name in names):
    groups.setdefault((rank, title, unit), {})[name] = label
  # A loss has the same color for all networks.
  losses = list(dict.fromkeys(label for (rank, *_), metrics in groups.items() if not rank
                              for label in metrics.values()))
  charts = []
  for (rank, title, unit), metrics in groups.items():
    chart = functools.partial(Chart, unit=unit, bounds=(0, 1) if unit == 'share' else None,
                              log=title == 'Gradients')
    if len(runs) > 1:
      charts += [chart(title if name in _SPEED else name,
                       [Line(run.name, i, *run.series(name)) for i, run in enumerate(runs)])
                 for name in metrics]
    else:
      charts.append(chart(title, [Line(label.strip(), i if rank else losses.index(label),
                                       *runs[0].series(name))
                                  for i, (name, label) in enumerate(metrics.items())]))
  return charts


def _place(name: str, names: set[str]) -> tuple[int, str, str, str, str]:
  """The rank, title and unit of the chart of a metric, its label there, and its name."""
  network, _, term = name.rpartition('/')
  term = term.replace('_', ' ')
  if name in _SPEED:
    return 4, *_SPEED[name], term, name
  if '_grad' in name:
    return 3, 'Gradients', 'largest entry', name.rpartition('_grad')[0], name
  if 'accuracy' in name:
    return 2, network or name, 'share', term, name
  if name.endswith('_loss'):
    network, term = name.removesuffix('_loss'), ' total'   # the blank sorts it first
  if f'{network}_loss' in names:
    return 0, f'{network}: loss', 'weighted', term, name
  return 1, network or name, '', term, name


def _settings(runs: Sequence[Run]) -> dict[str, list]:
  """`own`: (key, default, value of each run) if any run differs; `rest`: (key, default)."""
  defaults = _defaults(runs)
  found: dict[str, list] = {'own': [], 'rest': []}
  for key in dict.fromkeys(key for run in runs for key in run.config):
    values = [settings.get(key, '–') for settings in (defaults, *(run.config for run in runs))]
    shown = [value if isinstance(value, str) else repr(value) for value in values]
    if len(set(shown)) > 1:
      found['own'].append((key, *shown))
    else:
      found['rest'].append((key, shown[0]))
  return found


def _defaults(runs: Sequence[Run]) -> dict[str, Any]:
  """Defaults of the method of all runs; if it is unknown or they differ, those of every method."""
  # `scl` extends the method `base`.
  names = {str(run.config.get('base') or run.config.get('method')) for run in runs}
  known = {module.name for module in pkgutil.iter_modules(methods.__path__)} - {'scl'}
  settings = config.base()
  if len(names) == 1 and names <= known:
    settings = importlib.import_module(f'xmc_jax.methods.{names.pop()}').config()
  return run_folder.flat(json.loads(settings.to_json_best_effort()))
