"""`xmc report RUN`: one page about a training run, or several beside each other.

The page is one file without scripts or images from elsewhere: it can be sent, kept and printed.
"""
from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Sequence

from etils import epath
from PIL import Image

from xmc_jax import config
from xmc_jax.evals import results
from xmc_jax.report import run_folder as page_run
from xmc_jax.report import score_tables as page_scores
from xmc_jax.report.curves import Chart, Line, figure
from xmc_jax.report.html import Element, document, table, tag
from xmc_jax.report.run_folder import SPEED, Run
from xmc_jax.types import UserError
from xmc_jax.utils import atomic

_STAGES = 8            # of a run's images that are shown beneath the newest
_COLUMNS = 8           # of the grids of train.Album
_WIDEST = 1640         # pixels of an embedded image
_SPLITS = {'heldout': 'held-out captions', 'train': 'captions of training'}
_TITLES = {'images_per_second': ('Speed', 'images/s'), 'seconds_per_step': ('Step', 's'),
           'waiting_for_data': ('Waiting for data', 'share of the time')}


def report(workdirs: Sequence[str], out: str | None = None,
           across_protocols: bool = False) -> epath.Path:
  """Writes the page and returns its path.

  Args:
    workdirs: folders of runs; several are laid over each other.
    out: where to; None: report.html in the run's folder, or comparison.html in the first one's.
    across_protocols: allows runs that were measured by different protocols.
  Raises:
    UserError: no such run, a file of it that is missing or damaged, runs that no protocol has in
      common, or a place that cannot be written to.
  """
  runs = page_run.read(workdirs)
  mixed = _mixed(runs)
  if mixed and not across_protocols:
    results.refuse_mixed(mixed, '`xmc evaluate --protocol`, or allow them beside each other with '
                        '--across_protocols')
  title, now = ', '.join(run.name for run in runs), time.gmtime()
  page = document(f'{title}: training report', tag('h1', title), _warning(mixed), _head(runs),
                  *_curves(runs), *_scores(runs, mixed), *_images(runs), *_config(runs),
                  tag('p', time.strftime('Written by xmc report on %Y-%m-%d %H:%M UTC.', now),
                      class_='soft'))
  default = runs[0].folder / ('report.html' if len(runs) == 1 else 'comparison.html')
  return _write(epath.Path(out) if out else default, page)


def _mixed(runs: Sequence[Run]) -> list[str]:
  """The protocols of runs that have none in common; empty if they can be compared."""
  measured = [found for run in runs if (found := page_scores.protocols(run.scores))]
  return sorted(set.union(*measured)) if measured and not set.intersection(*measured) else []


def _warning(mixed: Sequence[str]) -> Element | None:
  return tag('p', f'These runs were measured by different protocols ({", ".join(mixed)}): their '
             'numbers are not comparable.', class_='bad') if mixed else None


def _head(runs: Sequence[Run]) -> Element:
  facts = {run.name: run.facts() for run in runs}
  names = list(dict.fromkeys(name for found in facts.values() for name in found))
  if len(runs) == 1:
    return tag('dl', *(tag('div', tag('dt', name), tag('dd', facts[runs[0].name][name]))
                       for name in names), class_='facts')
  rows = [[name, *(found.get(name, '–') for found in facts.values())] for name in names]
  return table(['', *facts], rows)


def _curves(runs: Sequence[Run]) -> list[Element]:
  """Charts of all metrics: groups of one run in one chart, or one metric of several runs."""
  names = list(dict.fromkeys(name for run in runs for name in run.names))
  groups: dict[str, list[str]] = {}
  for name in sorted(names, key=_order):
    groups.setdefault(_group(name, names), []).append(name)
  terms = dict.fromkeys(_label(name) for name in sorted(names, key=_order)
                        if _group(name, names).endswith(': loss'))
  colours = {label: i for i, label in enumerate(terms)}   # a term has one in all charts
  charts = []
  for title, members in groups.items():
    if len(runs) == 1:
      lines = [Line(_label(name), colours.get(_label(name), i), *runs[0].series(name))
               for i, name in enumerate(members)]
      charts.append(_chart(title, members[0], lines))
    else:
      charts += [_chart(_title(name), name, [Line(run.name, i, *run.series(name))
                                             for i, run in enumerate(runs)]) for name in members]
  about = ('Thin: as reported, each the mean of the steps since the report before. Thick: a '
           'centred mean over a twentieth of the reports, whose last value is in the legend.')
  return [tag('h2', 'Curves'), tag('p', about, class_='soft'),
          tag('div', *map(figure, charts), class_='charts')]


def _order(name: str) -> tuple:
  """Totals first, then terms, gradients, the rest, speed; in each the order of the alphabet."""
  network, _, what = name.rpartition('_')
  kinds = {'loss': 0, 'gradient': 2}
  if name in SPEED:
    return 4, SPEED.index(name)
  return kinds.get(what, 3 if 'accuracy' in name else 1), 0, name


def _group(name: str, names: Sequence[str]) -> str:
  """The chart that a metric of one run belongs to."""
  if name in SPEED:
    return _TITLES[name][0]
  if name.endswith('_gradient'):
    return 'Gradients'
  network = name.removesuffix('_loss') if name.endswith('_loss') else name.rpartition('/')[0]
  return f'{network}: loss' if f'{network}_loss' in names else network or name


def _label(name: str) -> str:
  """What a metric is called inside its group."""
  if name.endswith('_gradient'):
    return name.removesuffix('_gradient')
  return 'total' if name.endswith('_loss') else name.rpartition('/')[2].replace('_', ' ')


def _title(name: str) -> str:
  """What a metric is called in a chart of its own."""
  return _TITLES[name][0] if name in SPEED else name


def _chart(title: str, name: str, lines: Sequence[Line]) -> Chart:
  """The chart of metrics like `name`, with their unit and bounds."""
  if name in SPEED:
    return Chart(title, lines, _TITLES[name][1])
  if name.endswith('_gradient'):
    return Chart(title, lines, 'largest entry', log=True)
  if 'accuracy' in name:
    return Chart(title, lines, 'share', bounds=(0, 1))
  return Chart(title, lines, 'weighted terms' if title.endswith(': loss') else '')


def _scores(runs: Sequence[Run], mixed: Sequence[str]) -> list[Element | None]:
  inside = page_scores.section({run.name: run.scores for run in runs})
  if not inside:
    inside = [tag('p', 'No scores yet; xmc evaluate adds them.', class_='soft')]
  elif len(runs) > 1:
    inside.insert(0, tag('p', 'Scores stand in one table only where they were taken in the same '
                         'way: protocol, data set, counts, seed, reference, captions.',
                         class_='soft'))
  return [tag('h2', 'Scores'), _warning(mixed), *inside]


def _images(runs: Sequence[Run]) -> list[Element]:
  """The newest grid of each split, and the first row of earlier ones beneath it."""
  inside = []
  for run in runs:
    for split, found in run.images.items():
      newest, path = found[-1]
      name = _SPLITS.get(split, split)
      title = f'{run.name}, {name}' if len(runs) > 1 else name[0].upper() + name[1:]
      inside += [tag('h3', title, ' ', tag('small', f'step {newest:,}')),
                 tag('figure', _image(_open(path), f'{name} at step {newest:,}'),
                     class_='grid-image'), *_stages(run, found)]
  return [tag('h2', 'Images'), *(inside or [tag('p', 'No images yet.', class_='soft')])]


def _stages(run: Run, found: Sequence[tuple[int, epath.Path]]) -> list[Element]:
  if len(found) < 2:
    return []
  most = min(_STAGES, len(found))
  chosen = [found[i * (len(found) - 1) // (most - 1)] for i in reversed(range(most))]
  rows = [tag('div', _image(_first_row(_open(path), run.config), f'first row at step {step:,}'),
              tag('span', f'step {step:,}')) for step, path in chosen]
  count = f'{most} of {len(found)} stages' if most < len(found) else f'all {most} stages'
  return [tag('p', f'The first row above over time, {count}, newest first:', class_='soft'),
          tag('div', *rows, class_='stages')]


def _first_row(grid: Image.Image, settings: dict) -> Image.Image:
  """The first row of images of a grid without its captions; all of it if made by another hand."""
  size = settings.get('model.size')
  if isinstance(size, int) and size > 0:
    side = size * -(-96 // size)          # as image_io.grid lays them
    margin = max(6, side // 24)
    columns = min(_COLUMNS, settings.get('grid') or _COLUMNS)
    if grid.width == margin + columns * (side + margin):
      return grid.crop((0, margin, grid.width, margin + side))
  return grid


def _open(path: epath.Path) -> Image.Image:
  try:
    return Image.open(io.BytesIO(path.read_bytes())).convert('RGB')
  except (OSError, SyntaxError) as error:
    raise UserError(f'{path} is not an image that can be read; remove it') from error


def _image(image: Image.Image, words: str) -> Element:
  """An image inside the page: PNG or JPEG, whichever is smaller."""
  image.thumbnail((_WIDEST, 10 * _WIDEST), Image.Resampling.LANCZOS)
  kinds = {'png': {'optimize': True}, 'jpeg': {'quality': 90, 'subsampling': 0}}
  found = {}
  for kind, options in kinds.items():
    image.save(file := io.BytesIO(), kind, **options)
    found[kind] = file.getvalue()
  kind = min(found, key=lambda kind: len(found[kind]))
  data = base64.b64encode(found[kind]).decode()
  return tag('img', src=f'data:image/{kind};base64,{data}', alt=words, width=image.width,
             height=image.height)


def _config(runs: Sequence[Run]) -> list[Element]:
  """All keys; those that differ from the default, or between the runs, come first."""
  defaults = page_run.flat(json.loads(config.base().to_json_best_effort()))
  keys = list(dict.fromkeys(key for run in runs for key in run.config))
  if not keys:
    return [tag('h2', 'Config'), tag('p', 'The run has no config.json.', class_='soft')]
  own = [key for key in keys if any(key not in run.config or key not in defaults
                                    or run.config[key] != defaults[key] for run in runs)]
  heads = [run.name for run in runs] if len(runs) > 1 else ['This run']
  rows = [[('', tag('code', key)), _value(defaults, key), *(_marked(run.config, key, defaults)
                                                         for run in runs)] for key in own]
  rest = [tag('li', tag('code', f'{key} = {_value(defaults, key)}'))
          for key in keys if key not in own]
  return [tag('h2', 'Config'), tag('p', 'What differs from the defaults is marked.', class_='soft'),
          table(['Key', 'Default', *heads], rows), tag('p', 'As by default:', class_='soft'),
          tag('ul', *rest, class_='keys')]


def _marked(settings: dict, key: str, defaults: dict) -> str | tuple:
  same = key in settings and key in defaults and settings[key] == defaults[key]
  return _value(settings, key) if same else ('mark', _value(settings, key))


def _value(settings: dict, key: str) -> str:
  if key not in settings:
    return '–'
  return settings[key] if isinstance(settings[key], str) else repr(settings[key])


def _write(path: epath.Path, page: str) -> epath.Path:
  try:
    atomic.save(path, page)
  except OSError as error:
    raise UserError(f'the page cannot be written to {path} ({error.strerror or error}); give a '
                    'place that can be written to with --out') from error
  return path
