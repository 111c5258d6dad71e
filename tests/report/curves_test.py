"""`xmc report`: the curves."""
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from pages import chart, drawn, legend, make, metrics, parse

from xmc_jax.report import curves
from xmc_jax.report.curves import Chart, Line
from xmc_jax.report.report import report


def axes_of(*lines, **options):
  axes = Figure().add_subplot()
  curves.draw(axes, Chart('x', lines, **options))
  return axes


def test_charts_draw_the_metrics_and_the_legend_has_the_last_value(run):
  root = parse(report([run]))
  loss = chart(root, 'joint/g: loss')
  assert legend(loss) == {'total': '15', 'hinge': '-2.5'}
  for i, expected in enumerate([[19.75, 17.5, 15], [-0.125, -1.25, -2.5]]):
    steps, values = drawn(loss, i)
    np.testing.assert_allclose(steps, [1, 10, 20], atol=0.01)
    np.testing.assert_allclose(values, expected, atol=0.01)
  assert legend(chart(root, 'Gradients')) == {'joint/g': '0.5'}
  assert legend(chart(root, 'Speed')) == {'images per second': '64'}
  texts = {t.text() for t in chart(root, 'joint/accuracy').find('text')}
  assert {'0', '0.2', '1', '20', 'step'} <= texts


def test_gradients_have_a_logarithmic_axis(tmp_path):
  lines = [line | {'joint/g_grad_max': 10.0 ** -i} for i, line in enumerate(metrics())]
  gradients = chart(parse(report([make(tmp_path / 'a', lines)])), 'Gradients')
  np.testing.assert_allclose(drawn(gradients, log=True)[1], [1, 0.1, 0.01], rtol=1e-3)


@pytest.mark.parametrize('values, log', [
    ([1, 0.1, 0.01], True), ([1, 2, 3], False), ([1, 0.01, 0], False), ([1, 0.01, -1], False)])
def test_only_positive_values_far_apart_get_a_logarithmic_axis(values, log):
  assert axes_of(Line('a', 0, [1, 2, 3], values), log=True).get_yscale() == (
      'log' if log else 'linear')


def test_the_thick_line_is_a_centered_mean_and_no_spike_is_lost():
  values = np.zeros(4000)
  values[1234] = 201.0
  axes = axes_of(Line('a', 0, np.arange(4000), values), bounds=(0, 201))
  raw, mean = (line.get_ydata() for line in axes.lines)
  np.testing.assert_array_equal(raw, values)
  assert mean.max() == pytest.approx(1)                        # over 2 * 100 + 1 values
  np.testing.assert_array_equal(np.flatnonzero(mean > 0.5), np.arange(1134, 1335))


def test_large_runs_are_thinned():
  values = np.random.default_rng(0).random(100_000)
  values[1234] = 2.0
  svg = curves.svg(Chart('x', [Line('a', 0, np.arange(100_000), values)], bounds=(0, 2)))
  assert len(svg) < 100_000
  raw = re.search(r'id="raw0">\s*<path d="([^"]*)"', svg)[1]
  top, bottom = (f(float(y) for y in re.findall(r'[ML] \S+ (\S+)', raw)) for f in (min, max))
  grid = [float(y) for y in re.findall(r'd="M \S+ (\S+) \nL \S+ \1 \n" clip', svg)]
  assert top == pytest.approx(min(grid), abs=0.2)              # the spike reaches the limit
  assert bottom == pytest.approx(max(grid), abs=0.5)


def test_svg_is_deterministic_and_its_ids_do_not_collide():
  line = Line('a', 0, [1, 2, 3], [3.0, 1.0, 2.0])
  a, again, b = (curves.svg(Chart('x', [line]), prefix) for prefix in ('a-', 'a-', 'b-'))
  assert a == again and a.startswith('<svg')
  ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (a, b)]
  assert ids[0] and not ids[0] & ids[1]
  assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', a)) <= ids[0]
  assert not re.search(r'20\d\d-\d\d-\d\d|metadata', a)        # no date


def test_svg_takes_its_colors_from_the_style_sheet():
  svg = curves.svg(Chart('x', [Line(str(i), i, [1, 2], [1.0, i]) for i in range(8)]))
  assert set(re.findall(r'(?:stroke|fill): ([^;"]+)', svg)) <= {
      'none', *(f'var(--{name})' for name in ('ink', 'line', *(f'c{i}' for i in range(8))))}


@pytest.mark.parametrize('low, high, ticks', [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-3.2, 7, [-2, 0, 2, 4, 6]),
    (0.0131, 0.0169, [0.014, 0.015, 0.016]), (0, 80_000, [0, 20_000, 40_000, 60_000, 80_000])])
def test_axes_have_round_numbers(low, high, ticks):
  axes = axes_of(Line('a', 0, [0, 1], [low, high]), bounds=(low, high))
  found = [tick for tick in axes.get_yticks() if low <= tick <= high]
  np.testing.assert_allclose(found, ticks, atol=1e-12)


@pytest.mark.parametrize('values', [[5.0, 5.0, 5.0], [0.0], [-1e-9, 1e-9], [np.nan, 2.0, np.inf]])
def test_odd_values_give_a_chart_inside_its_frame(values):
  axes = axes_of(Line('a', 0, range(len(values)), values))
  [(left, right), (low, high)] = axes.get_xlim(), axes.get_ylim()
  points = axes.lines[0].get_xydata()
  assert len(points) == np.isfinite(values).sum()
  assert all(left <= x <= right and low <= y <= high for x, y in points)
  assert '<svg' in curves.svg(Chart('x', [Line('a', 0, range(len(values)), values)]))


@pytest.mark.parametrize('steps, first', [([4380], 0), ([0], 0), ([1], 0), ([2, 3], 2)])
def test_axes_of_few_points_count_whole_steps(steps, first):
  axes = axes_of(Line('a', 0, steps, [7.0] * len(steps)), smooth=False)
  low, high = axes.get_xlim()
  ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
  assert ticks[0] == first and all(tick == round(tick) for tick in ticks)
  assert axes.lines[0].get_marker() == 'o'
  np.testing.assert_array_equal(axes.lines[0].get_xdata(), steps)


def test_one_outlier_does_not_flatten_the_rest():
  values = np.ones(1000)
  values[::2], values[500] = 2.0, 1e6
  assert axes_of(Line('a', 0, range(1000), values), smooth=False).get_ylim()[1] > 1e6
  smooth = [Line('a', 0, range(1000), values)]
  assert axes_of(*smooth).get_ylim()[1] < 3e4


def test_a_line_without_finite_values_is_dropped():
  assert not Chart('x', [Line('a', 0, [1], [float('nan')])]).lines


def test_one_huge_value_neither_flattens_the_rest_nor_drowns_what_follows():
  values = np.full(1000, 0.25)
  values[300] = 1e16
  chart = Chart('x', [Line('a', 0, np.arange(1000), values)])
  low, high, _ = curves._limits(chart)
  mean = curves.moving_mean(values)
  np.testing.assert_array_equal(mean[-300:], 0.25)
  assert mean.max() > 1e12 and low < 0.25 < high < 1
  dots = Chart('x', [Line('a', 0, np.arange(1000), values)], smooth=False)
  assert curves._limits(dots)[1] > 1e16      # every dot is seen


def test_one_value_of_zero_keeps_the_axis_of_a_smoothed_line_linear():
  values = np.geomspace(1, 1e-3, 1000)
  assert curves._limits(Chart('x', [Line('a', 0, np.arange(1000), values)], log=True))[2]
  values[500] = 0      # far inside the outer percent
  assert not curves._limits(Chart('x', [Line('a', 0, np.arange(1000), values)], log=True))[2]


@pytest.mark.parametrize('n', [1, 2, 39, 40, 41, 81, 1000, 4001])
def test_the_mean_is_that_of_each_window(n):
  values, reach = np.random.default_rng(n).normal(size=n), n // 40
  slow = [values[max(i - reach, 0):i + reach + 1].mean() for i in range(n)]
  np.testing.assert_allclose(curves.moving_mean(values), slow, rtol=1e-9, atol=1e-12)
