"""`xmc report`: the curves."""
import numpy as np
import pytest
from pages import chart, drawn, legend, make, metrics, parse

from xmc_jax.report import curves as page_curves
from xmc_jax.report.curves import Chart, Line
from xmc_jax.report.report import report


def test_curves_draw_what_was_reported_and_the_legend_has_the_last_value(run):
  root = parse(report([run]))
  loss = chart(root, 'joint/g: loss')
  assert legend(loss) == {'total': '15', 'hinge': '-2.5'}
  steps, values = drawn(loss)
  np.testing.assert_allclose(steps, [1, 10, 20], atol=0.05)
  np.testing.assert_allclose(values, [19.75, 17.5, 15], atol=0.01)
  assert legend(chart(root, 'Gradients')) == {'joint/g': '0.5'}
  assert legend(chart(root, 'Speed')) == {'images per second': '64'}
  texts = [t.text() for t in chart(root, 'joint/accuracy').find('text')]
  assert {'0', '0.2', '1', '20', 'step'} <= set(texts)


def test_the_thick_line_is_a_centred_mean_and_no_spike_is_lost():
  steps, values = np.arange(4000), np.zeros(4000)
  values[1234] = 201.0
  figure = page_curves.figure(Chart('x', [Line('a', 0, steps, values)], bounds=(0, 201)))
  thick, raw = (figure.find(f'.//polyline[@class="{kind} c0"]').get('points').split()
                for kind in ('line', 'raw'))
  height = lambda points: max(1 - (float(p.split(',')[1]) - 8) / 168 for p in points)
  assert len(raw) <= 300 and len(thick) <= 300
  assert height(raw) == pytest.approx(1)
  assert height(thick) == pytest.approx(1 / 201, abs=1e-3)     # over 2 * 100 + 1 reports


def test_a_logarithmic_axis_reads_back(tmp_path):
  lines = [line | {'joint/g_gradient': 10.0 ** -i} for i, line in enumerate(metrics())]
  gradients = chart(parse(report([make(tmp_path / 'a', lines)])), 'Gradients')
  assert gradients.find('figcaption')[0].text().endswith('log')
  np.testing.assert_allclose(drawn(gradients)[1], [1, 0.1, 0.01], rtol=1e-3)


@pytest.mark.parametrize('low, high, ticks', [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-3.2, 7, [-2, 0, 2, 4, 6]),
    (0.0131, 0.0169, [0.014, 0.015, 0.016]), (0, 80_000, [0, 20_000, 40_000, 60_000, 80_000])])
def test_axes_have_round_numbers(low, high, ticks):
  np.testing.assert_allclose(page_curves._ticks(low, high, 6), ticks, atol=1e-12)


@pytest.mark.parametrize('values', [[5.0, 5.0, 5.0], [0.0], [-1e-9, 1e-9], [np.nan, 2.0, np.inf]])
def test_odd_values_give_a_chart_inside_its_frame(values):
  figure = page_curves.figure(Chart('x', [Line('a', 0, range(len(values)), values)]))
  for pair in figure.find('.//polyline[@class="line c0"]').get('points').split():
    x, y = map(float, pair.split(','))
    assert 0 <= x <= 400 and 0 <= y <= 210


@pytest.mark.parametrize('steps, numbers', [
    ([4380], ['0', '1,000', '2,000', '3,000', '4,000']), ([0], ['0', '1']), ([1], ['0', '1']),
    ([2, 3], ['2', '3'])])
def test_axes_of_few_points_count_whole_steps(steps, numbers):
  figure = page_curves.figure(Chart('x', [Line('a', 0, steps, [7.0] * len(steps))], smooth=False))
  assert [t.text for t in figure.findall('.//text[@text-anchor="middle"]')] == numbers
  low, high, start, end, _ = map(float, figure.find('.//svg[@data-x]').get('data-x').split())
  found = [float(c.get('cx')) for c in figure.findall('.//circle')]
  np.testing.assert_allclose(found, [start + (end - start) * (s - low) / (high - low)
                                     for s in steps], atol=0.05)


def test_a_chart_of_nothing_is_left_out():
  assert page_curves.figure(Chart('x', [Line('a', 0, [1], [float('nan')])])) is None
