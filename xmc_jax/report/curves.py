"""Charts of values over training steps, drawn by matplotlib.

Matplotlib belongs to the extra `report`, so it is imported only where something is drawn.
"""
from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

# Color-blind readers can tell these apart. In the SVG they become the CSS variables --c0, --c1, ...
COLORS = ('#0072b2', '#d55e00', '#00876c', '#a8498c', '#8a6d00', '#2f9fd8', '#6b4fbb', '#4b5563')
_INK, _RULE = '#1b1f24', '#d5d9df'
_WINDOW = 20         # the moving mean covers 1/20 of the points


@dataclasses.dataclass
class Line:
  """Values over steps, all of shape [n]; values that are not finite are dropped.

  color: an index into COLORS.
  spreads: standard deviations, None where unknown.
  """
  label: str
  color: int
  steps: Sequence[float]
  values: Sequence[float]
  spreads: Sequence[float | None] | None = None
  dashed: bool = False

  def __post_init__(self):
    values = np.asarray(self.values, np.float64)
    keep = np.isfinite(values)
    self.steps, self.values = np.asarray(self.steps, np.float64)[keep], values[keep]
    self.spreads = np.asarray(self.spreads or [None] * len(keep), np.float64)[keep]
    self.dashed = self.dashed or self.color >= len(COLORS)
    self.color %= len(COLORS)


@dataclasses.dataclass
class Chart:
  """Lines that share their axes.

  unit: shown beside the title.
  bounds: limits of the value axis, if known.
  log: use a logarithmic axis if all values are positive and the largest is 20 times the smallest.
  smooth: draw a centered moving mean over the thin raw line; otherwise mark every value by a dot.
  """
  title: str
  lines: Sequence[Line]
  unit: str = ''
  bounds: tuple[float, float] | None = None
  log: bool = False
  smooth: bool = True

  def __post_init__(self):
    self.lines = [line for line in self.lines if len(line.steps)]

  def mean(self, line: Line) -> np.ndarray:
    """What the thick line shows."""
    return moving_mean(line.values) if self.smooth else line.values


def moving_mean(values: np.ndarray) -> np.ndarray:
  """Mean over a window centered on each value, cut off at both ends; [n] -> [n]."""
  n, reach = len(values), len(values) // (2 * _WINDOW)
  at, width = np.arange(n), 2 * reach + 1
  # A window is the end of a block of `width` values and the beginning of the next block, so no sum
  # has a value from outside of it: in one running sum a huge value would drown all later ones.
  padded = np.pad(values, (reach, reach + -(n + 2 * reach) % width)).reshape(-1, width)
  ends = np.cumsum(padded[:, ::-1], 1)[:, ::-1].ravel()
  beginnings = np.cumsum(padded, 1).ravel()[width - 1:]
  total = ends[:n] + np.where(at % width, beginnings[:n], 0)
  return total / (np.minimum(at + reach + 1, n) - np.maximum(at - reach, 0))


def draw(axes: Any, chart: Chart) -> None:
  """Draws a chart with at least one line into matplotlib axes, without title and legend."""
  from matplotlib import ticker
  low, high, log = _limits(chart)
  for i, line in enumerate(chart.lines):
    style = {'color': COLORS[line.color], 'linestyle': '--' if line.dashed else '-'}
    mean = chart.mean(line)
    if not np.array_equal(mean, line.values):
      axes.plot(line.steps, line.values, linewidth=.7, alpha=.35, gid=f'raw{i}', **style)
    marker = None if chart.smooth and len(mean) > 1 else 'o'
    axes.plot(line.steps, mean, linewidth=1.8, marker=marker, markersize=4, label=line.label,
              gid=f'line{i}', **style)
    if (known := np.isfinite(line.spreads)).any():
      axes.vlines(line.steps[known], (line.values - line.spreads)[known],
                  (line.values + line.spreads)[known], color=style['color'], linewidth=1)
  steps = np.concatenate([line.steps for line in chart.lines])
  first, last = float(steps.min()), max(float(steps.max()), 1.0)
  first = 0.0 if first < last / 2 or first == last else first
  axes.set(xlim=(first - (last - first) / 50, last + (last - first) / 50), ylim=(low, high),
           yscale='log' if log else 'linear')
  axes.set_xlabel('step', loc='right')
  axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
  axes.xaxis.set_major_formatter('{x:,.0f}')
  axes.yaxis.set_major_locator(ticker.LogLocator(numticks=6) if log
                               else ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
  axes.yaxis.set_minor_locator(ticker.NullLocator())
  axes.yaxis.set_major_formatter('{x:,.6g}')
  axes.grid(axis='y', linewidth=.6)
  axes.spines[['top', 'right', 'left']].set_visible(False)


def svg(chart: Chart, prefix: str = '') -> str:
  """The chart as an <svg> element for HTML; the same arguments give the same text.

  Element ids start with `prefix`, which must differ between the charts of one document.
  """
  import matplotlib
  from matplotlib.figure import Figure
  ink = ('text.color', 'axes.labelcolor', 'axes.edgecolor', 'xtick.color', 'ytick.color')
  # Simplified paths keep every spike, but lose detail below one point.
  style = {'svg.hashsalt': 'xmc_jax', 'svg.fonttype': 'none', 'path.simplify_threshold': 1.0,
           'font.sans-serif': ['DejaVu Sans'], 'grid.color': _RULE, 'ytick.major.size': 0,
           **dict.fromkeys(ink, _INK)}
  with matplotlib.rc_context(style):
    figure = Figure(figsize=(4.6, 2.5), layout='constrained')
    draw(figure.add_subplot(facecolor='none'), chart)
    figure.savefig(file := io.StringIO(), format='svg', transparent=True,
                   metadata=dict.fromkeys(('Creator', 'Date', 'Format', 'Type')))
  text = file.getvalue()
  for color, name in ((_INK, 'ink'), (_RULE, 'line'), *zip(COLORS, map('c{}'.format, range(8)))):
    text = text.replace(color, f'var(--{name})')
  return re.sub(r'(\bid="|href="#|url\(#)', rf'\g<1>{prefix}', text[text.index('<svg'):])


def _limits(chart: Chart) -> tuple[float, float, bool]:
  """Lowest and highest value of the axis, and whether it is logarithmic.

  Of smoothed lines the outer percent of the values is ignored, so that one outlier does not flatten
  the rest.
  """
  if chart.bounds:
    return *chart.bounds, False
  shown = []
  for line in chart.lines:
    spreads = np.nan_to_num(line.spreads)
    shown.append(np.quantile(line.values, [0.01, 0.99]) if chart.smooth else line.values)
    shown += [line.values - spreads, line.values + spreads] if spreads.any() else []
  low, high = float(min(map(np.min, shown))), float(max(map(np.max, shown)))
  positive = low > 0 and all(min(line.values) > 0 for line in chart.lines)
  if chart.log and positive and high > 20 * low:
    return low / 1.1, high * 1.1, True
  room = (high - low) / 20 or max(abs(high), 1) / 10
  return (0.0 if 0 <= low < high / 2 else low - room), high + room, False
