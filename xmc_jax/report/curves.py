"""Small charts over steps as inline SVG: axes with numbers, a legend, thin raw and thick smooth."""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from xmc_jax.report.html import Element, number, tag

COLOURS = 8
_WIDTH, _HEIGHT = 400, 210           # of the drawing; the page scales it
_TOP, _RIGHT, _BOTTOM = 8, 10, 34    # room around the axes
_LETTER = 6.4                        # width of a digit of an axis
_MOST = 300                          # points of a line: more cannot be told apart
_SMOOTHING = 20                      # a line's mean is over this part of its points


@dataclasses.dataclass(frozen=True)
class Line:
  """Values over steps; `spreads` has one or None for each, `colour` counts from 0."""
  label: str
  colour: int
  steps: Sequence[float]
  values: Sequence[float]
  spreads: Sequence[float | None] = ()
  dash: bool = False


@dataclasses.dataclass(frozen=True)
class Chart:
  """Lines that share their axes; values that are not finite are left out.

  unit    beside the title
  bounds  of the values, where they are known
  log     a logarithmic axis, where all values are positive and far apart
  smooth  a centred mean on top of the thin raw line; otherwise every value gets a dot
  """
  title: str
  lines: Sequence[Line]
  unit: str = ''
  bounds: tuple[float, float] | None = None
  log: bool = False
  smooth: bool = True


@dataclasses.dataclass(frozen=True)
class _Axis:
  """From values to pixels."""
  low: float
  high: float
  start: float
  end: float
  log: bool = False

  def __call__(self, value: np.ndarray) -> np.ndarray:
    scale = np.log if self.log else np.asarray
    share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
    return self.start + (self.end - self.start) * share

  def describe(self) -> str:
    """For the script, which reads pixels back."""
    return f'{self.low:.8g} {self.high:.8g} {self.start:g} {self.end:g} {int(self.log)}'


def figure(chart: Chart) -> Element | None:
  """The chart with its title and legend; None where no line has a finite value."""
  lines = [line for line in map(_finite, chart.lines) if len(line.steps)]
  if not lines:
    return None
  means = [_moving_mean(line.values) if chart.smooth else line.values for line in lines]
  low, high, log = _value_range(chart, lines, means)
  ticks = _log_ticks(low, high) if log else _ticks(low, high, 6)
  left = 10 + _LETTER * max(len(_tick(t)) for t in ticks)
  steps = np.concatenate([line.steps for line in lines])
  from_zero = steps.min() < steps.max() / 2 or steps.min() == steps.max()
  x = _Axis(0 if from_zero else steps.min(), max(steps.max(), 1), left, _WIDTH - _RIGHT)
  y = _Axis(low, high, _HEIGHT - _BOTTOM, _TOP, log)
  inside = [*_grid(x, y, ticks)]
  for line, mean in zip(lines, means):
    inside += _drawn(line, mean, x, y, chart.smooth)
  inside.append(tag('line', class_='cross', x1=left, x2=left, y1=_TOP, y2=_HEIGHT - _BOTTOM))
  shared_fakes = tag('svg', *inside, viewBox=f'0 0 {_WIDTH} {_HEIGHT}', role='img',
                aria_label=f'{chart.title} over steps', data_x=x.describe(), data_y=y.describe())
  unit = ', '.join(filter(None, [chart.unit, 'log' if log else '']))
  return tag('figure', tag('figcaption', chart.title, tag('small', unit) if unit else None,
                           tag('small', '', class_='at')),
             _legend(lines, means), shared_fakes, class_='chart')


def _finite(line: Line) -> Line:
  values = np.asarray(line.values, np.float64)
  keep = np.flatnonzero(np.isfinite(values))
  spreads = [line.spreads[i] for i in keep] if line.spreads else ()
  return dataclasses.replace(line, steps=np.asarray(line.steps, np.float64)[keep],
                             values=values[keep], spreads=spreads)


def _moving_mean(values: np.ndarray) -> np.ndarray:
  """The mean over a window around each value, cut at both ends."""
  reach = len(values) // (2 * _SMOOTHING)
  sums = np.concatenate([[0.0], np.cumsum(values)])
  here = np.arange(len(values))
  start, stop = np.maximum(here - reach, 0), np.minimum(here + reach + 1, len(values))
  return (sums[stop] - sums[start]) / (stop - start)


def _value_range(chart, lines, means) -> tuple[float, float, bool]:
  """Lowest and highest value of the axis, and whether it is logarithmic.

  One wild report does not flatten the rest: of the raw values, the outer hundredths do not count.
  """
  if chart.bounds:
    return *chart.bounds, False
  ends = [q for line in lines for q in np.quantile(line.values, [0.01, 0.99])]
  ends += [v + sign * s for line in lines for v, s in zip(line.values, line.spreads) if s
           for sign in (-1, 1)]
  low, high = min(*ends, *map(np.min, means)), max(*ends, *map(np.max, means))
  if chart.log and low > 0 and high > 20 * low:
    return low / 1.1, high * 1.1, True
  if low == high:
    low, high = low - max(abs(low), 1) / 10, high + max(abs(high), 1) / 10
  room = (high - low) / 20
  from_zero = 0 <= low < high / 2
  return 0.0 if from_zero else low - room, high + room, False


def _ticks(low: float, high: float, most: int) -> np.ndarray:
  """Round values between two, at most `most` of them."""
  rough = (high - low) / most
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(k * power for k in (1, 2, 5, 10) if k * power >= rough * (1 - 1e-9))
  return np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step


def _log_ticks(low: float, high: float) -> np.ndarray:
  """Powers of ten between two values, and 2 and 5 of them where these are few."""
  powers = 10.0 ** np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
  some = [k * p for p in powers for k in ((1, 2, 5) if high < 1000 * low else (1,))]
  return np.array([t for t in some if low <= t <= high])


def _tick(value: float) -> str:
  if abs(value) < 1e4:
    return f'{value:,.6g}'
  power, letter = (1e6, 'M') if abs(value) >= 1e6 else (1e3, 'k')
  return f'{value / power:.4g}{letter}'


def _grid(x: _Axis, y: _Axis, ticks: np.ndarray) -> list[Element]:
  """Lines and numbers of both axes."""
  inside = []
  for tick in ticks:
    at = round(float(y(tick)), 1)
    inside += [tag('line', class_='grid', x1=x.start, x2=x.end, y1=at, y2=at),
               tag('text', _tick(tick), x=round(x.start - 5, 1), y=at + 4, text_anchor='end')]
  for tick in (t for t in _ticks(x.low, x.high, 6) if t == round(t)):      # there are no half steps
    at = round(float(x(tick)), 1)
    inside += [tag('line', class_='grid', x1=at, x2=at, y1=y.start, y2=y.start + 4),
               tag('text', _tick(tick), x=min(at, _WIDTH - len(_tick(tick)) * _LETTER / 2),
                   y=y.start + 16, text_anchor='middle')]
  return [*inside, tag('text', 'step', x=x.end, y=y.start + 30, text_anchor='end')]


def _drawn(line: Line, mean: np.ndarray, x: _Axis, y: _Axis, smooth: bool) -> list[Element]:
  """One line: its raw values, their mean or dots, and its spreads."""
  colour = f'c{line.colour % COLOURS}' + ' dash' * (line.dash or line.colour >= COLOURS)
  pixels = lambda values: (x(line.steps), np.clip(y(values), y.end, y.start))
  points = _pairs(*_thinned(*pixels(mean)))
  inside = [tag('polyline', class_=f'line {colour}', points=points)]
  if smooth and not np.array_equal(mean, line.values):
    inside.insert(0, tag('polyline', class_=f'raw {colour}',
                         points=_pairs(*_extremes(*pixels(line.values)))))
  if not smooth or len(line.steps) == 1:
    inside += [tag('circle', class_=colour, cx=f'{a:.1f}', cy=f'{b:.1f}', r=3)
               for a, b in zip(*pixels(mean))]
  for step, value, spread in zip(line.steps, line.values, line.spreads):
    if spread:
      at = round(float(x(step)), 1)
      ends = np.clip(y(np.array([value - spread, value + spread])), y.end, y.start)
      inside.append(tag('line', class_=f'spread {colour}', x1=at, x2=at, y1=f'{ends[0]:.1f}',
                        y2=f'{ends[1]:.1f}'))
  return inside


def _thinned(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """At most _MOST points of a smooth line, with both ends."""
  keep = np.unique(np.linspace(0, len(xs) - 1, min(len(xs), _MOST)).round().astype(int))
  return xs[keep], ys[keep]


def _extremes(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The lowest and the highest point of each of _MOST / 2 pieces, so that no spike is lost."""
  if len(xs) <= _MOST:
    return xs, ys
  pieces = np.array_split(np.arange(len(xs)), _MOST // 2)
  keep = [i for p in pieces for i in sorted({p[ys[p].argmin()], p[ys[p].argmax()]})]
  return xs[keep], ys[keep]


def _pairs(xs: np.ndarray, ys: np.ndarray) -> str:
  return ' '.join(f'{a:.1f},{b:.2f}' for a, b in zip(xs, ys))


def _legend(lines: Sequence[Line], means: Sequence[np.ndarray]) -> Element:
  """Each line's colour, name and last value."""
  def entry(line: Line, mean: np.ndarray) -> Element:
    colour = f'c{line.colour % COLOURS}' + ' dash' * (line.dash or line.colour >= COLOURS)
    swatch = tag('svg', tag('polyline', points='0,5 18,5', class_=colour), viewBox='0 0 18 10',
                 aria_hidden='true')
    return tag('li', swatch, tag('span', line.label), ' ', tag('b', number(float(mean[-1]))))
  return tag('ul', *map(entry, lines, means), class_='legend')
