"""`xmc report`: what stands on the page, read back by an HTML parser."""
import base64
import dataclasses
import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from xmc_jax import config, pictures
from xmc_jax.page import curves as page_curves
from xmc_jax.page import scores as page_scores
from xmc_jax.page.curves import Chart, Line
from xmc_jax.page.report import report
from xmc_jax.types import UserError

VOID = {'meta', 'img', 'br', 'hr', 'link', 'input'}
SCORE = {'metric': 'FD-lite0', 'value': 12.5, 'spread': None, 'time': 100.0, 'step': 20,
         'weights': 'averaged', 'protocol': 'offline', 'network': 'efficientnet-lite0',
         'resize': 'antialiased_bilinear', 'distance': 'FD-lite0', 'weights_sha256': 'ab' * 32,
         'data': 'emoji', 'size': 32, 'fakes': 1000, 'reals': 191, 'reference': 'emoji/heldout',
         'reference_sha256': 'cd' * 32, 'captions_sha256': 'ef' * 32, 'seed': 0,
         'differs': ['1,000 fakes instead of 30,000'], 'commit': '0123456789abcdef',
         'device': 'TPU v4', 'devices': 4, 'xmc_jax': '0.1.0'}
COCO = {'data': 'coco2014', 'size': 256, 'protocol': 'tf2015', 'metric': 'FID', 'differs': []}


@dataclasses.dataclass
class Node:
  name: str
  attributes: dict
  inside: list

  def find(self, name, **wanted):
    """All elements of a name below this one; `class_` is one of its classes."""
    found = []
    for child in self.inside:
      if isinstance(child, Node):
        classes = (child.attributes.get('class') or '').split()
        if child.name == name and all(
            value in classes if key == 'class_' else child.attributes.get(key) == value
            for key, value in wanted.items()):
          found.append(child)
        found += child.find(name, **wanted)
    return found

  def text(self):
    parts = (child if isinstance(child, str) else child.text() for child in self.inside
             if isinstance(child, str) or child.name not in ('style', 'script'))
    return ' '.join(' '.join(parts).split())

  def every(self):
    yield self
    for child in self.inside:
      if isinstance(child, Node):
        yield from child.every()


class Tree(html.parser.HTMLParser):
  """Builds nodes; fails at a tag that is closed wrongly or left open."""

  def __init__(self, markup):
    super().__init__()
    self.root = Node('root', {}, [])
    self._open = [self.root]
    self.feed(markup)
    self.close()
    assert self._open == [self.root], 'a tag is left open'

  def handle_starttag(self, tag, attrs):
    assert len(dict(attrs)) == len(attrs), f'an attribute of {tag} comes twice'
    node = Node(tag, dict(attrs), [])
    self._open[-1].inside.append(node)
    if tag not in VOID:
      self._open.append(node)

  def handle_endtag(self, tag):
    assert self._open.pop().name == tag

  def handle_data(self, data):
    self._open[-1].inside.append(data)


def parse(path):
  return Tree(path.read_text()).root


def metrics(steps=(1, 10, 20), **more):
  return [{'step': step, 'time': 1000.0 + step, 'joint/g_loss': 20.0 - step / 4,
           'joint/g/hinge': -step / 8, 'joint/d_loss': 3.0, 'joint/d/hinge': 3.0,
           'joint/g_gradient': 0.5, 'joint/accuracy/real': 0.75,
           **({'images_per_second': 64.0, 'seconds_per_step': 0.5, 'waiting_for_data': 0.02}
              if step > 1 else {}), **more} for step in steps]


def grid(seed):
  images = np.random.default_rng(seed).random((16, 32, 32, 3), np.float32)
  return pictures.grid(images, [f'caption {i}' for i in range(16)], columns=8)


def make(folder, lines=None, scores=(), stages=(), settings=None):
  """A run's folder, as training and evaluation leave it."""
  folder.mkdir(parents=True)
  chosen = json.loads(config.base().to_json_best_effort())
  chosen['steps'], chosen['model']['size'], chosen['grid'] = 20, 32, 16
  chosen |= settings or {}
  (folder / 'config.json').write_text(json.dumps(chosen))
  write = lambda name, found: (folder / name).write_text(
      ''.join(json.dumps(line) + '\n' for line in found))
  write('metrics.jsonl', metrics() if lines is None else lines)
  if scores:
    write('scores.jsonl', [SCORE | score for score in scores])
  for step in stages:
    pictures.save_png(folder / 'pictures' / f'heldout_{step:08d}.png', grid(step))
  return folder


@pytest.fixture
def run(tmp_path):
  return make(tmp_path / 'red', stages=(10, 20), scores=[
      {}, {'step': 10, 'value': 9.25, 'time': 50.0}, {'weights': 'live', 'value': 13.5}])


def facts(root):
  return {node.find('dt')[0].text(): node.find('dd')[0].text()
          for node in root.find('dl', class_='facts')[0].find('div')}


def rows(table):
  return [[cell.text() for cell in row.find('td')] for row in table.find('tr')[1:]]


def score_tables(root):
  return [t for t in root.find('table') if t.find('th')[0].text() == 'Metric'
          and t.find('th')[1].text() == 'Weights']


def chart(root, title):
  return next(f for f in root.find('figure', class_='chart')
              if f.find('figcaption')[0].inside[0] == title)


def legend(figure):
  return {li.find('span')[0].text(): li.find('b')[0].text() for li in figure.find('li')}


def drawn(figure, i=0):
  """Steps and values of a line of a chart, read back from its pixels through the axes."""
  svg = figure.find('svg', role='img')[0]
  pixels = [pair.split(',') for pair in
            svg.find('polyline', class_='line')[i].attributes['points'].split()]
  found = []
  for axis, at in (('data-x', 0), ('data-y', 1)):
    low, high, start, end, log = map(float, svg.attributes[axis].split())
    share = (np.array([float(p[at]) for p in pixels]) - start) / (end - start)
    found.append(low * (high / low) ** share if log else low + (high - low) * share)
  return found


def test_the_head_tells_what_was_run(run):
  path = report([str(run)])
  assert path.name == 'report.html' and path.parent == run
  root = parse(path)
  assert root.find('h1')[0].text() == 'red'
  found = facts(root)
  assert found | {'Data set': 'emoji', 'Pictures': '32 px', 'Steps': '20 of 20',
                  'State': 'finished', 'Training time': 'about 10 s', 'Speed': '64 images/s',
                  'Scored on': '4 × TPU v4', 'Commit of the scores': '0123456789'} == found


def test_a_run_that_goes_on_is_not_called_finished(tmp_path):
  assert facts(parse(report([make(tmp_path / 'a', metrics((1, 10)))])))['State'] == 'not finished'


def test_the_page_asks_nothing_of_the_network(run):
  root = parse(report([run]))
  for node in root.every():
    for name in ('src', 'href', 'xlink:href', 'data', 'action', 'srcset'):
      assert node.attributes.get(name, 'data:').startswith('data:')
    if node.name in ('style', 'script'):
      assert not re.search(r'url\(|@import|https?:|fetch|import\b', ''.join(node.inside))
  assert not root.find('link') and len(root.find('script')) == 1
  assert root.find('html')[0].attributes['lang'] == 'en'


def test_text_of_others_is_escaped(tmp_path):
  evil = '<script>alert(1)</script>&amp;"\x00\ud800'
  root = parse(report([make(tmp_path / 'a<b>&c', metrics(**{'<i>x</i>': 1.0}),
                            [{'metric': evil, 'weights': evil}], settings={'recipe': evil})]))
  assert root.find('h1')[0].text() == 'a<b>&c'
  shown = '<script>alert(1)</script>&amp;"\ufffd\ufffd'
  assert facts(root)['Recipe'] == shown
  assert any(row[0].startswith(shown) for row in rows(score_tables(root)[0]))
  assert chart(root, '<i>x<').find('svg') and len(root.find('script')) == 1 and not root.find('i')


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


def test_a_chart_of_nothing_is_left_out():
  assert page_curves.figure(Chart('x', [Line('a', 0, [1], [float('nan')])])) is None


def test_scores_tell_the_newest_the_best_and_what_they_are(run):
  root = parse(report([run]))
  assert rows(score_tables(root)[0]) == [
      ['FD-lite0 lower is better', 'averaged', '12.5 at 20', '9.25 at 10'],
      ['FD-lite0 lower is better', 'live', '13.5 at 20', '13.5 at 20']]
  text = root.text()
  assert 'Not the measure that is published: 1,000 fakes instead of 30,000.' in text
  assert '1,000 fakes · 191 reals · against emoji/heldout' in text
  assert legend(chart(root, 'FD-lite0')) == {'averaged': '12.5', 'live': '13.5'}
  assert 'Published' not in text


@pytest.mark.parametrize('metric, best', [
    ('KID', '1 at 10'), ('IS-lite0', '2 at 20'), ('recall', '2 at 20'), ('CMMD', '1 at 10'),
    ('objects: kinds', '2 at 20'), ('near-duplicates of training', '1 at 10'),
    ('CLIP R-precision-100', '2 at 20'), ('alignment-16 of real', '–'), ('new', '–')])
def test_the_best_is_the_lowest_or_the_highest(tmp_path, metric, best):
  folder = make(tmp_path / 'a', scores=[{'metric': metric, 'value': 1.0, 'step': 10},
                                        {'metric': metric, 'value': 2.0}])
  assert rows(score_tables(parse(report([folder])))[0])[0][2:] == ['2 at 20', best]


def test_a_spread_and_a_baseline_are_shown(tmp_path):
  root = parse(report([make(tmp_path / 'a', scores=[
      {'metric': 'alignment-16', 'value': 0.5, 'spread': 0.02},
      {'metric': 'alignment-16 of real', 'value': 0.58}])]))
  assert rows(score_tables(root)[0])[0][2] == '0.5 ± 0.02 at 20'
  figure = chart(root, 'alignment-16')
  assert legend(figure) == {'averaged': '0.5', 'of real': '0.58'}
  assert len(figure.find('line', class_='spread')) == 1


@pytest.mark.parametrize('other', [
    {'fakes': 500}, {'seed': 1}, {'protocol': 'tf2015'}, {'reference_sha256': '00'},
    {'captions_sha256': '00'}, {'size': 64}, {'weights_sha256': '00'}])
def test_what_was_measured_differently_stands_in_another_table(tmp_path, other):
  root = parse(report([make(tmp_path / 'a', scores=[{}, {'value': 1.0, **other}])]))
  assert [len(rows(table)) for table in score_tables(root)] == [1, 1]


def test_random_weights_are_said_to_mean_nothing(tmp_path):
  root = parse(report([make(tmp_path / 'a', scores=[{'weights_sha256': 'random'}])]))
  assert any('mean nothing' in p.text() for p in root.find('p', class_='bad'))


@pytest.mark.parametrize('score, values', [
    (COCO, ['29.53', '24.24', '19.37']),
    (COCO | {'protocol': 'legacy-torchvision'}, ['19.32', '5.85', '5.01']),
    (COCO | {'protocol': 'legacy-keras', 'size': 128}, ['10.5 to 11.0']),
    (COCO | {'protocol': 'legacy-keras'}, []), (COCO | {'protocol': 'clean'}, []),
    (COCO | {'metric': 'KID'}, []), (COCO | {'data': 'emoji'}, [])])
def test_published_numbers_are_of_the_same_ruler_data_size_and_metric(tmp_path, score, values):
  root = parse(report([make(tmp_path / 'a', scores=[score])]))
  tables = [t for t in root.find('table') if 'Source' in [th.text() for th in t.find('th')]]
  assert [row[1] for table in tables for row in rows(table)] == values


def test_every_published_number_names_its_source():
  assert all(re.search(r'arXiv \d{4}\.\d{5}', p.source) for p in page_scores.PUBLISHED)
  assert '9.33' not in {p.value for p in page_scores.PUBLISHED}   # its ruler is not known


def decoded(image):
  kind, data = re.fullmatch(r'data:image/(png|jpeg);base64,(.+)', image.attributes['src']).groups()
  opened = Image.open(io.BytesIO(base64.b64decode(data)))
  assert opened.format.lower() == kind
  return np.asarray(opened, np.float32)


def test_pictures_are_the_newest_grid_and_the_first_row_over_time(run):
  images = parse(report([run])).find('img')
  assert [image.attributes['alt'] for image in images] == [
      'held-out captions at step 20', 'first row at step 20', 'first row at step 10']
  newest = decoded(images[0])
  assert newest.shape == grid(20).shape and np.abs(newest - grid(20)).mean() < 16   # of noise
  for image, step in zip(images[1:], (20, 10)):
    row = decoded(image)
    assert row.shape[0] == 96 and np.abs(row - grid(step)[6:102]).mean() < 16
  assert np.abs(decoded(images[1]) - decoded(images[2])).mean() > 32


def test_of_many_stages_some_are_shown_with_the_first_and_the_last(tmp_path):
  root = parse(report([make(tmp_path / 'a', stages=range(1, 31))]))
  steps = [span.text() for span in root.find('div', class_='stages')[0].find('span')]
  assert len(steps) == 8 and steps[0] == 'step 30' and steps[-1] == 'step 1'


def test_a_large_grid_is_made_smaller(tmp_path):
  folder = make(tmp_path / 'a')
  pictures.save_png(folder / 'pictures' / 'train_00000020.png', np.zeros((900, 3000, 3), np.uint8))
  assert decoded(parse(report([folder])).find('img')[0]).shape == (492, 1640, 3)


def test_all_keys_of_the_config_are_there_and_what_differs_is_marked(run):
  root = parse(report([run]))
  table = next(t for t in root.find('table') if t.find('th')[0].text() == 'Key')
  assert [row for row in rows(table) if row[0] in ('steps', 'model.size')] == [
      ['steps', '100000', '20'], ['model.size', '256', '32']]
  assert [cell.text() for cell in table.find('td', class_='mark')] == ['20', '32', '16']
  assert 'optim.g.lr = 0.0001' in [c.text() for c in root.find('code')]


def test_several_runs_share_charts_tables_and_colours(run, tmp_path):
  blue = make(tmp_path / 'blue', metrics((1, 20)), [{'value': 8.0}])
  path = report([run, blue])
  assert path == run / 'comparison.html'
  root = parse(path)
  assert legend(chart(root, 'joint/g_loss')) == {'red': '15', 'blue': '15'}
  classes = [p.attributes['class'] for p in chart(root, 'joint/g_loss').find('polyline')]
  assert {'c0', 'c1'} <= set(' '.join(classes).split())
  heads = [th.text() for th in score_tables(root)[0].find('th')]
  assert heads[2:] == ['red: newest', 'red: best', 'blue: newest', 'blue: best']
  assert rows(score_tables(root)[0])[0][2:] == ['12.5 at 20', '9.25 at 10', '8 at 20', '8 at 20']
  assert not root.find('p', class_='bad')


def test_runs_of_one_name_are_told_apart(tmp_path):
  runs = [make(tmp_path / name / 'demo') for name in 'ab']
  assert list(legend(chart(parse(report(runs)), 'joint/g_loss'))) == [str(run) for run in runs]


def test_different_protocols_are_refused_unless_asked_for(run, tmp_path):
  other = make(tmp_path / 'coco', scores=[COCO])
  with pytest.raises(UserError, match='offline and tf2015 .* --across_protocols'):
    report([run, other])
  assert not (run / 'comparison.html').exists()
  root = parse(report([run, other], across_protocols=True))
  assert all('not comparable' in p.text() for p in root.find('p', class_='bad'))
  assert len(root.find('p', class_='bad')) == 2 and len(score_tables(root)) == 2


def test_runs_with_one_protocol_in_common_are_not_refused(run, tmp_path):
  both = make(tmp_path / 'both', scores=[{}, COCO])
  unscored = make(tmp_path / 'unscored')
  assert len(score_tables(parse(report([run, both, unscored])))) == 2


def test_missing_pieces_are_named(tmp_path):
  folder = make(tmp_path / 'a', [{'step': 3, 'loss': 1.0}])
  (folder / 'config.json').unlink()
  root = parse(report([folder]))
  for words in ('No scores yet', 'No pictures yet', 'no config.json'):
    assert words in root.text()
  assert facts(root) == {'Steps': '3'} and legend(chart(root, 'loss')) == {'loss': '1'}


def test_older_and_foreign_lines_are_shown_as_they_are(tmp_path):
  folder = make(tmp_path / 'a')
  lines = [{'metric': 'FID', 'value': 3.0}, {'alignment_16': 0.477, 'step': 4380},
           {'metric': 'IS', 'value': None},
           {'metric': 'KID', 'value': 1, 'step': 'x', 'fakes': 'y', 'spread': '?', 'differs': None}]
  (folder / 'scores.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines)
                                       + '{"metric": "cut of')
  root = parse(report([folder]))
  assert [rows(table) for table in score_tables(root)] == [
      [['FID lower is better', '–', '3', '3']], [['KID lower is better', '–', '1 at x', '1 at x']]]
  assert 'alignment_16 0.477, step 4380' in root.text()


def test_a_line_that_a_killed_run_left_unfinished_is_dropped(run):
  with (run / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 30, "joint')
  assert facts(parse(report([run])))['Steps'] == '20 of 20'


@pytest.mark.parametrize('name, content, words', [
    ('metrics.jsonl', b'{"step": 1}\nnonsense\n', 'metrics.jsonl, line 2, is not a line'),
    ('metrics.jsonl', b'[1]\n', 'metrics.jsonl, line 1, is not a line'),
    ('metrics.jsonl', b'{"step": "x"}\n', 'metrics.jsonl, line 1, is not a line'),
    ('metrics.jsonl', b'{"step": NaN}\n', 'metrics.jsonl, line 1, is not a line'),
    ('metrics.jsonl', b'\xff\xfe\n', 'metrics.jsonl cannot be read'),
    ('metrics.jsonl', b'', 'has no report yet'),
    ('scores.jsonl', b'nonsense\n', 'scores.jsonl has a line that is not JSON'),
    ('scores.jsonl', b'5\n', 'scores.jsonl has a line that is no score'),
    ('scores.jsonl', b'\xff\n', 'scores.jsonl cannot be read'),
    ('config.json', b'{', 'config.json is not the config'),
    ('config.json', b'[]', 'config.json is not the config'),
    ('pictures/heldout_00000020.png', b'PNG', 'heldout_00000020.png is not a picture')])
def test_a_damaged_file_is_named_in_one_sentence(run, name, content, words):
  (run / name).write_bytes(content)
  with pytest.raises(UserError, match=words) as caught:
    report([run])
  assert '\n' not in str(caught.value)
  assert not (run / 'report.html').exists()


def test_what_is_no_run_is_refused(run, tmp_path):
  with pytest.raises(UserError, match='there is no run at .*nothing'):
    report([tmp_path / 'nothing'])
  with pytest.raises(UserError, match='no metrics.jsonl'):
    report([tmp_path])
  with pytest.raises(UserError, match='twice'):
    report([run, tmp_path / 'x' / '..' / 'red'])
  with pytest.raises(UserError, match='no run was given'):
    report([])


def test_the_page_is_written_whole_to_where_it_is_asked_for(run, tmp_path):
  path = report([run], out=str(tmp_path / 'new' / 'page.html'))
  assert [p.name for p in (tmp_path / 'new').iterdir()] == ['page.html']
  before = path.read_text()
  (run / 'scores.jsonl').write_text('nonsense\n')
  with pytest.raises(UserError):
    report([run], out=str(path))
  assert path.read_text() == before
  with pytest.raises(UserError, match='cannot be written'):
    report([make(tmp_path / 'b')], out=str(path / 'page.html'))
