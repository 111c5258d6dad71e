"""The scores of the report in a sentence, and as bars between chance and real images."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from xmc_jax.encoders.registry import RANDOM
from xmc_jax.evals import results
from xmc_jax.report.score_tables import Score, age, is_score, number

# What shares are of, in words; other metrics are called by their names.
_WORDS = {
    r'alignment-(\d+)': 'images that are nearest to their own caption among {}',
    'objects: objects': 'named objects that are found',
    'objects: kinds': 'named objects that are found, as a mean over kinds',
    'objects: images': 'images that show every named object',
    'objects: precision': 'objects found that are named',
    'objects: counts': 'named objects that are found in the stated number',
    'objects: sizes': 'stated sizes that are right',
    'objects: relations': 'stated relations that hold',
    'objects: places': 'stated places that are right'}
_OF = 'the share of '
# Metrics whose chance follows from their names: one caption of so many.
_ONE_OF = r'(?:alignment|.+ R-precision)-([1-9]\d*).*'


class Share(NamedTuple):
  """A score in [0, 1] beside what chance and real images reach, None where that is not known.

  name: a noun, singular.
  values: of each run that has the score.
  step: of the newest of them.
  """
  name: str
  values: dict[str, float]
  step: Any
  chance: float | None
  real: float | None

  @property
  def title(self) -> str:
    return _capital(self.name.removeprefix(_OF))

  def bars(self) -> list[tuple[str, str, float, str]]:
    """Kind, label, value and the value in words of each bar."""
    found = [('chance', 'by chance', self.chance),
             *(('run', name, value) for name, value in self.values.items()),
             ('real', 'real images', self.real)]
    return [(kind, label, value, percent(value)) for kind, label, value in found
            if value is not None]


def shares(runs: Mapping[str, Sequence[Score]]) -> list[Share]:
  """Scores for which chance or real images are known, each in the setting that most runs share.

  They are the newest ones of averaged weights; if that leaves a choice of settings, the newest
  counts. Scores by random weights mean nothing, and are left out.
  """
  found: dict[str, dict[tuple, dict[str, Score]]] = {}      # [metric][setting][run]
  for run, lines in runs.items():
    for line in sorted(filter(_counts, lines), key=age):
      setting = tuple(str(line.get(key)) for key in results.SETTING)
      found.setdefault(line['metric'], {}).setdefault(setting, {})[run] = line
  own = [_share(metric, found) for metric in found
         if not metric.endswith(results.BASELINES) and results.better(metric) is max]
  return [share for share in own if len(share.bars()) > len(share.values)
          and all(0 <= value <= 1 for _, _, value, _ in share.bars())]


def sentence(runs: Mapping[str, Sequence[Score]]) -> str:
  """The first of the shares in words, or else the newest distance; '' without either."""
  if found := shares(runs):
    first = found[0]
    reached = ' and '.join(percent(value) + (f' for {name}' if len(runs) > 1 else '')
                           for name, value in first.values.items())
    chance = '' if first.chance is None else f'; by chance it would be {percent(first.chance)}'
    real = '' if first.real is None else f'; real images reach {percent(first.real)}'
    return f'{_begin(first.name, first.step, len(runs) > 1)} is {reached}{chance}{real}.'
  distances = [line for lines in runs.values() for line in filter(_counts, lines)
               if line['metric'] == line.get('distance')]
  if len(runs) > 1 or not distances:
    return ''
  newest = max(distances, key=age)
  return (f'{_begin(newest["metric"], newest.get("step"), False)} is {number(newest["value"])}; '
          'lower is better, and 0 is the least.')


def percent(value: float) -> str:
  """'65 %', '6.2 %' or '0 %', which no line break cuts."""
  return f'{100 * value:.{int(0 < value < 0.0995)}f}\u00a0%'


def _counts(line: Score) -> bool:
  return (is_score(line) and line.get('weights_sha256') != RANDOM
          and line.get('weights') in ('averaged', None))


def _share(metric: str, found: Mapping[str, Mapping[tuple, Mapping[str, Score]]]) -> Share:
  setting, lines = max(found[metric].items(), key=lambda item: (
      len(item[1]), max(map(age, item[1].values()))))
  baselines = lambda suffix: found.get(f'{metric} {suffix}', {}).get(setting, {}).values()
  real = max(baselines('of real'), key=age, default=None)
  chances = {line['value'] for line in baselines('by chance')}
  one_of = re.fullmatch(_ONE_OF, metric)
  return Share(_name(metric), {run: line['value'] for run, line in lines.items()},
               max(lines.values(), key=age).get('step'),
               # Of several runs there may be several, and the bar has one mark.
               chances.pop() if len(chances) == 1 else 1 / int(one_of[1]) if one_of else None,
               real['value'] if real else None)


def _name(metric: str) -> str:
  for pattern, words in _WORDS.items():
    if match := re.fullmatch(pattern, metric):
      return _OF + words.format(*match.groups())
  return metric


def _begin(name: str, step: Any, several: bool) -> str:
  """The beginning of a sentence; several runs have no step in common."""
  if several or not isinstance(step, int):
    return _capital(name)
  return f'At step {step:,}, {name}'


def _capital(text: str) -> str:
  return text[:1].upper() + text[1:]
