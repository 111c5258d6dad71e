"""Scores in the report: only scores that are comparable share a chart and a table."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xmc_jax.encoders.registry import RANDOM
from xmc_jax.evals import results
from xmc_jax.report.curves import Chart, Line
from xmc_jax.report.run_folder import is_number

Score = Mapping[str, Any]   # a line of scores.jsonl

# Published numbers for 'protocol data size' of their authors; see docs/evaluation.md.
# Each is (metric, value, model, source).
_DF_README = "README of DF-GAN's code (arXiv 2008.05865)"
_DM_README = "README of DM-GAN's code (arXiv 1904.01310)"
PUBLISHED = {
    'legacy-keras coco2014 128': [
        ('FID', '10.5 to 11.0', 'XMC-GAN, released code', 'its README (arXiv 2101.04702)')],
    'legacy-torchvision coco2014 256': [
        ('FID', '19.32', 'DF-GAN', 'arXiv 2008.05865'),
        ('FID', '15.41', 'DF-GAN, released weights', _DF_README)],
    'legacy-torchvision coco2014 224': [      # against statistics of real images of 256 px
        ('FID', '5.85', 'GALIP', 'arXiv 2301.12959'),
        ('FID', '5.01', 'GALIP, released weights', 'README of its code (arXiv 2301.12959)')],
    'legacy-torchvision cub 256': [
        ('FID', '14.81', 'DF-GAN', 'arXiv 2008.05865'),
        ('FID', '12.10', 'DF-GAN, released weights', _DF_README)],
    'legacy-torchvision-pil coco2014 256': [
        ('FID', '35.49', 'AttnGAN', _DM_README),
        ('FID', '32.64', 'DM-GAN', 'arXiv 1904.01310'),
        ('FID', '26.55', 'DM-GAN, released weights', _DM_README)],
    'tf2015 coco2014 256': [
        ('FID', '29.53', 'AttnGAN', _DM_README),
        ('FID', '24.24', 'DM-GAN, released weights', _DM_README),
        ('FID', '19.37', 'SSA-GAN',
         'arXiv 2104.00567; users of its code report 28.19 for the released weights')]}


def sections(runs: Mapping[str, Sequence[Score]]) -> tuple[list[dict], list[tuple[str, str]]]:
  """What the template shows of each group of comparable scores, and (run, text) of other lines."""
  groups: dict[tuple[str, ...], list[tuple[str, Score]]] = {}
  other = []
  for run, lines in runs.items():
    for line in lines:
      if is_score(line):
        setting = tuple(str(line.get(key)) for key in results.SETTING)
        groups.setdefault(setting, []).append((run, line))
      else:
        other.append((run, ', '.join(f'{key} {value}' for key, value in line.items())))
  return [_section(list(runs), groups[setting]) for setting in sorted(groups)], other


def is_score(line: Score) -> bool:
  return isinstance(line.get('metric'), str) and is_number(line.get('value'))


def number(value: Any) -> str:
  """Four digits: '0.02345', '12.35', but no rounded integer part: '1,235'."""
  return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.4g}'


def _section(runs: Sequence[str], lines: Sequence[tuple[str, Score]]) -> dict[str, Any]:
  shown, several = [run for run in runs if run in dict(lines)], len(runs) > 1
  first = lines[0][1]
  series: dict[str, dict[str, dict[str, dict]]] = {}   # [metric][weights][run][step]: newest line
  for run, line in sorted(lines, key=lambda item: age(item[1])):
    # What real images reach depends on no weights; chance is measured on generated images.
    weights = '–' if line['metric'].endswith(' of real') else str(line.get('weights') or '–')
    of_metric = series.setdefault(line['metric'], {}).setdefault(weights, {})
    of_metric.setdefault(run, {})[str(line.get('step'))] = line
  rows = [(metric, _direction(metric), weights,
           *(cell for run in shown for cell in _newest_and_best(metric, found.get(run, {}))))
          for metric in series for weights, found in sorted(series[metric].items())]
  where = ' '.join(str(first.get(key)) for key in ('protocol', 'data', 'size'))
  return {
      'title': first.get('protocol', 'unknown protocol'), 'setting': _describe(first),
      'charts': [_chart(runs, series, metric, several) for metric in series
                 if not metric.endswith(results.BASELINES)],
      'heads': [f'{run}: {what}' if several else what for run in shown
                for what in ('Newest', 'Best')],
      'rows': rows, 'random': first.get('weights_sha256') == RANDOM,
      'differs': list(dict.fromkeys(text for _, x in lines for text in x.get('differs') or ())),
      'spread': any(is_number(x.get('spread')) for _, x in lines),
      'choice': len({str(x.get('step')) for _, x in lines}) > 1,
      'hashes': [f'{key} {str(first[f"{key}_sha256"])[:10]}'
                 for key in ('weights', 'reference', 'captions') if first.get(f'{key}_sha256')],
      'published': [row for row in PUBLISHED.get(where, ()) if row[0] in series]}


def age(line: Score) -> tuple[float, ...]:
  step, time = line.get('step'), line.get('time')
  return step if is_number(step) else -1, time if is_number(time) else 0


def _chart(runs: Sequence[str], series: Mapping, metric: str, several: bool) -> Chart:
  """A metric over steps beside its values for real images and by chance."""
  lines: list[Line] = []
  for i, run in enumerate(runs):
    for name in (metric, *(f'{metric} {baseline}' for baseline in results.BASELINES)):
      for weights, found in sorted(series.get(name, {}).items()):
        points = [x for x in found.get(run, {}).values() if is_number(x.get('step'))]
        label = weights if name == metric else name.removeprefix(metric).strip()
        lines.append(Line(
            f'{run}, {label}' if several else label, i if several else len(lines),
            [x['step'] for x in points], [x['value'] for x in points],
            [x['spread'] if is_number(x.get('spread')) else None for x in points],
            dashed=name != metric or weights == 'live'))
  return Chart(metric, lines, _direction(metric), smooth=False)


def _newest_and_best(metric: str, points: Mapping[str, Score]) -> tuple[str, str]:
  found = list(points.values())
  best = results.better(metric)
  return (_cell(found[-1]) if found else '–',
          _cell(best(found, key=lambda x: x['value'])) if found and best else '–')


def _cell(line: Score) -> str:
  spread, step = line.get('spread'), line.get('step')
  return (number(line['value']) + (f' ± {number(spread)}' if is_number(spread) else '')
          + (f' at step {_count(step)}' if step is not None else ''))


def _count(value: Any) -> str:
  return f'{value:,}' if is_number(value) else str(value)


def _direction(metric: str) -> str:
  return {min: 'lower is better', max: 'higher is better', None: ''}[results.better(metric)]


def _describe(line: Score) -> str:
  """What was compared with what."""
  forms = {'data': '{}', 'size': '{} px', 'images': 'images of {}', 'fakes': '{} fakes',
           'reals': '{} reals', 'reference': 'against {}', 'network': '{}', 'resize': '{}',
           'seed': 'seed {}'}
  known = {key: _count(line[key]) for key in forms if line.get(key) is not None}
  return ' · '.join(forms[key].format(value) for key, value in known.items()) or 'setting unknown'
