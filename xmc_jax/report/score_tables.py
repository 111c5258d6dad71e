"""Scores on a page: only what was taken in the same way stands in one chart and one table."""
from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from xmc_jax.encoders.registry import RANDOM
from xmc_jax.report.curves import Chart, Line, figure
from xmc_jax.report.html import Element, number, table, tag

Runs = Mapping[str, Sequence[Mapping[str, Any]]]   # {a run's name: lines of its scores.jsonl}

# What must be the same in two scores before they may be compared.
_SETTING = ('protocol', 'network', 'resize', 'distance', 'data', 'size', 'fakes', 'reals',
            'reference', 'images', 'seed', 'weights_sha256', 'reference_sha256', 'captions_sha256')
_LOWER = r'FI?D(-.+)?|KID(-.+)?|CMMD|near-duplicates.*'
_HIGHER = r'(IS|precision|recall|density|coverage)(-.+)?|alignment-\d+|objects: .+|CLIP .+|SOA.*'
_BASELINE = re.compile(r'(.+) (of real|by chance)')   # measures of no generator


@dataclasses.dataclass(frozen=True)
class Published:
  """A number of the literature, on the protocol that its authors used; see docs/evaluation.md."""
  protocol: str
  data: str
  size: int
  metric: str
  value: str
  model: str
  source: str


_DM_README = "README of DM-GAN's code (arXiv 1904.01310)"
PUBLISHED = (
    Published('legacy-keras', 'coco2014', 128, 'FID', '10.5 to 11.0', 'XMC-GAN, released code',
              'its README (arXiv 2101.04702)'),
    Published('legacy-torchvision', 'coco2014', 256, 'FID', '19.32', 'DF-GAN', 'arXiv 2008.05865'),
    Published('legacy-torchvision', 'coco2014', 256, 'FID', '5.85', 'GALIP', 'arXiv 2301.12959'),
    Published('legacy-torchvision', 'coco2014', 256, 'FID', '5.01', 'GALIP, released weights',
              'README of its code (arXiv 2301.12959)'),
    Published('legacy-torchvision-pil', 'coco2014', 256, 'FID', '35.49', 'AttnGAN', _DM_README),
    Published('legacy-torchvision-pil', 'coco2014', 256, 'FID', '32.64', 'DM-GAN',
              'arXiv 1904.01310'),
    Published('legacy-torchvision-pil', 'coco2014', 256, 'FID', '26.55', 'DM-GAN, released weights',
              _DM_README),
    Published('tf2015', 'coco2014', 256, 'FID', '29.53', 'AttnGAN', _DM_README),
    Published('tf2015', 'coco2014', 256, 'FID', '24.24', 'DM-GAN, released weights', _DM_README),
    Published('tf2015', 'coco2014', 256, 'FID', '19.37', 'SSA-GAN',
              'arXiv 2104.00567; users of its code report 28.19 for the released weights'),
)


def section(runs: Runs) -> list[Element]:
  """Charts and tables of all scores of the runs; what has no metric stands at the end."""
  settings: dict[tuple, dict[str, list]] = {}
  foreign = []
  for run, lines in runs.items():
    for line in lines:
      if _is_score(line):
        settings.setdefault(_setting(line), {}).setdefault(run, []).append(line)
      else:
        foreign.append((run, line))
  ordered = sorted(settings.items(), key=lambda item: str(item[0]))
  inside = [part for _, scores in ordered for part in _one_setting(list(runs), scores)]
  if foreign:
    inside += [tag('h3', 'Lines of another kind'),
               table(('Run', 'Line'), [(run, _words(line)) for run, line in foreign])]
  return inside


def protocols(lines: Sequence[Mapping[str, Any]]) -> set[str]:
  """Names of the protocols of some lines."""
  return {str(line.get('protocol', 'unknown')) for line in lines if _is_score(line)}


def _is_score(line: Mapping[str, Any]) -> bool:
  return isinstance(line.get('metric'), str) and _is_number(line.get('value'))


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count(value: Any) -> str:
  return f'{value:,}' if _is_number(value) else str(value)


def _setting(line: Mapping[str, Any]) -> tuple[str, ...]:
  return tuple(str(line.get(key)) for key in _SETTING)


def _one_setting(names: Sequence[str], scores: Mapping[str, Sequence[Mapping]]) -> list[Element]:
  """Heading, charts, tables and notes of scores that may be compared with each other."""
  lines = [line for name in names for line in scores.get(name, ())]
  line = lines[0]
  metrics = list(dict.fromkeys(line['metric'] for line in lines))
  charts = [figure(chart) for chart in _charts(names, scores, metrics)]
  shown = [name for name in names if name in scores]
  many = len(names) > 1
  heads = ([f'{name}: {what}' for name in shown for what in ('newest', 'best')] if many
           else ['Newest', 'Best'])
  rows = [[_titled(metric), weights, *(cell for name in shown for cell in _cells(
      [x for x in scores[name] if (x['metric'], _weights(x)) == (metric, weights)], metric))]
          for metric in metrics
          for weights in sorted({_weights(x) for x in lines if x['metric'] == metric})]
  return [tag('h3', str(line.get('protocol', 'unknown protocol')), ' ',
              tag('small', _counts(line))),
          tag('div', *charts, class_='charts'),
          table(['Metric', 'Weights', *heads], rows), *_notes(lines), *_published(line, metrics)]


def _charts(names: Sequence[str], scores: Mapping[str, Sequence[Mapping]],
            metrics: Sequence[str]) -> list[Chart]:
  """One for each metric, its baselines in it; colours are runs if there are several."""
  many, found = len(names) > 1, []
  for metric in metrics:
    if _BASELINE.fullmatch(metric):
      continue
    lines: list[Line] = []
    for i, name in enumerate(names):
      for what in (metric, f'{metric} of real', f'{metric} by chance'):
        own = [x for x in scores.get(name, ()) if x['metric'] == what]
        for weights in sorted({_weights(x) for x in own}):
          label = weights if what == metric else what.removeprefix(metric).strip()
          dash = what != metric or weights == 'live'
          points = _by_step([x for x in own if _weights(x) == weights])
          if points:
            lines.append(Line(f'{name}, {label}' if many else label, i if many else len(lines),
                              list(points), [x['value'] for x in points.values()],
                              [x['spread'] if _is_number(x.get('spread')) else None
                               for x in points.values()], dash))
    found.append(Chart(metric, lines, _direction(metric), smooth=False))
  return found


def _by_step(lines: Sequence[Mapping]) -> dict[float, Mapping]:
  """{step: its newest line}, by step; lines without one (of folders) are left out."""
  with_step = [x for x in lines if _is_number(x.get('step'))]
  return {x['step']: x for x in sorted(with_step, key=lambda x: (x['step'], x.get('time') or 0))}


def _cells(lines: Sequence[Mapping], metric: str) -> tuple:
  """The newest and the best of the lines of one metric of one run with one kind of weights."""
  if not lines:
    return '–', '–'
  points = list(_by_step(lines).values()) or list(lines)
  best = {'lower': min, 'higher': max}.get(_direction(metric).partition(' ')[0])
  return _cell(points[-1]), (_cell(best(points, key=lambda x: x['value'])) if best else '–')


def _cell(line: Mapping) -> tuple:
  spread, step = line.get('spread'), line.get('step')
  return ('', number(line['value']), f' ± {number(spread)}' if _is_number(spread) else None,
          tag('small', f' at {_count(step)}') if step is not None else None)


def _titled(metric: str) -> tuple:
  return '', metric, tag('small', f' {_direction(metric)}')


def _direction(metric: str) -> str:
  if _BASELINE.fullmatch(metric):
    return ''
  if re.fullmatch(_LOWER, metric):
    return 'lower is better'
  return 'higher is better' if re.fullmatch(_HIGHER, metric) else ''


def _weights(line: Mapping) -> str:
  return '–' if _BASELINE.fullmatch(line['metric']) else str(line.get('weights') or '–')


def _counts(line: Mapping[str, Any]) -> str:
  """What was compared with what."""
  get = line.get
  said = [get('data'), f'{get("size")} px' if get('data') and get('size') else None,
          f'images of {get("images")}' if get('images') else None,
          f'{_count(get("fakes"))} fakes' if get('fakes') else None,
          f'{_count(get("reals"))} reals' if get('reals') else None,
          f'against {get("reference")}' if get('reference') else None,
          get('network'), get('resize') if get('network') else None,
          f'seed {get("seed")}' if get('seed') is not None else None]
  return ' · '.join(filter(None, said)) or 'how it was measured is not said'


def _notes(lines: Sequence[Mapping]) -> list[Element]:
  """In what these scores differ from published ones, and what they must not be taken for."""
  differs = list(dict.fromkeys(what for x in lines for what in x.get('differs') or ()))
  hashes = [f'{name} {str(lines[0][key])[:10]}' for name, key in (
      ('weights', 'weights_sha256'), ('reference', 'reference_sha256'),
      ('captions', 'captions_sha256')) if lines[0].get(key)]
  notes = []
  if lines[0].get('weights_sha256') == RANDOM:
    notes.append(tag('p', 'The network of this protocol had random weights: these numbers mean '
                     'nothing.', class_='bad'))
  if differs:
    notes.append(tag('p', f'Not the measure that is published: {"; ".join(differs)}.'))
  if any(_is_number(x.get('spread')) for x in lines):
    notes.append(tag('p', '± is the standard deviation over subsets, splits or folds of one '
                     'measure, not over runs.', class_='soft'))
  if len({x.get('step') for x in lines}) > 1:
    notes.append(tag('p', 'The best is chosen by the very number it shows, so it flatters.',
                     class_='soft'))
  return notes + ([tag('p', 'SHA-256: ' + ', '.join(hashes), class_='soft')] if hashes else [])


def _published(line: Mapping, metrics: Sequence[str]) -> list[Element]:
  """Numbers of the literature for the same protocol, data set, size and metrics."""
  where = tuple(line.get(key) for key in ('protocol', 'data', 'size'))
  found = [p for p in PUBLISHED if (p.protocol, p.data, p.size) == where and p.metric in metrics]
  if not found:
    return []
  return [tag('p', 'Published on the same protocol, data set and size:'),
          table(('Metric', 'Value', 'Model', 'Source'),
                [(p.metric, p.value, p.model, p.source) for p in found])]


def _words(line: Mapping[str, Any]) -> str:
  return ', '.join(f'{key} {value}' for key, value in line.items())
