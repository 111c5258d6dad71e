"""`xmc report`: what stands on the page."""
import base64
import io
import json
import re

import numpy as np
import pytest
from pages import COCO, chart, facts, grid, legend, make, metrics, parse, rows, score_tables
from PIL import Image

from xmc_jax.report.report import report
from xmc_jax.types import UserError
from xmc_jax.utils import image_io


def test_the_head_tells_what_was_run(run):
  path = report([str(run)])
  assert path.name == 'report.html' and path.parent == run
  root = parse(path)
  assert root.find('h1')[0].text() == 'red'
  found = facts(root)
  assert found | {'Data set': 'emoji', 'Images': '32 px', 'Steps': '20 of 20',
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
                            [{'metric': evil, 'weights': evil}], settings={'method': evil})]))
  assert root.find('h1')[0].text() == 'a<b>&c'
  shown = '<script>alert(1)</script>&amp;"\ufffd\ufffd'
  assert facts(root)['Method'] == shown
  assert any(row[0].startswith(shown) for row in rows(score_tables(root)[0]))
  assert chart(root, '<i>x<').find('svg') and len(root.find('script')) == 1 and not root.find('i')


def decoded(image):
  kind, data = re.fullmatch(r'data:image/(png|jpeg);base64,(.+)', image.attributes['src']).groups()
  opened = Image.open(io.BytesIO(base64.b64decode(data)))
  assert opened.format.lower() == kind
  return np.asarray(opened, np.float32)


def test_images_are_the_newest_grid_and_the_first_row_over_time(run):
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
  image_io.save_png(folder / 'images' / 'train_00000020.png', np.zeros((900, 3000, 3), np.uint8))
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
  for words in ('No scores yet', 'No images yet', 'no config.json'):
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
    ('images/heldout_00000020.png', b'PNG', 'heldout_00000020.png is not an image')])
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
