"""`xmc report`: the page as a whole."""
import base64
import io
import json
import re
import sys

import browser
import numpy as np
import pytest
from pages import COCO, chart, drawn, facts, grid, legend, make, metrics, parse, rows, score_tables
from PIL import Image

from xmc_jax.report.report import report
from xmc_jax.types import UserError
from xmc_jax.utils import image_io


def test_the_facts_of_the_run(run):
  path = report([str(run)])
  assert path.name == 'report.html' and path.parent == run
  root = parse(path)
  assert root.find('h1')[0].text() == 'red'
  found = facts(root)
  assert found | {'Data set': 'emoji', 'Image size': '32 px', 'Steps': '20 of 20',
                  'State': 'finished', 'Training time': 'about 10 s', 'Speed': '64 images/s',
                  'Evaluated on': '4 × TPU v4', 'Commit of the scores': '0123456789'} == found


def test_a_run_in_progress_is_unfinished(tmp_path):
  assert facts(parse(report([make(tmp_path / 'a', metrics((1, 10)))])))['State'] == 'unfinished'


def test_steps_before_an_imported_run_took_it_no_time(tmp_path):
  lines = metrics((500_100, 500_200), seconds_per_step=1.0)
  found = facts(parse(report([make(tmp_path / 'a', lines)])))
  assert found['Training time'] == 'about 3 min'      # 200 s


def test_the_page_is_self_contained(run):
  root = parse(report([run]))
  for node in root.every():
    for name in ('src', 'href', 'xlink:href', 'data', 'action', 'srcset'):
      assert node.attributes.get(name, '#').startswith(('data:', '#'))
    style = node.attributes.get('style', '') + ''.join(node.inside if node.name == 'style' else [])
    assert not re.search(r'url\((?!#)|@import|https?:', style)
  assert not root.find('link') and len(root.find('script')) == 1
  assert root.find('html')[0].attributes['lang'] == 'en'


def test_text_from_files_is_escaped(tmp_path):
  evil = '<script>alert(1)</script>&amp;"\x00\ud800'
  root = parse(report([make(tmp_path / 'a<b>&c', metrics(**{'<i>x</i>': 1.0}),
                            [{'metric': evil, 'weights': evil}], settings={'method': evil})]))
  assert root.find('h1')[0].text() == 'a<b>&c'
  shown = '<script>alert(1)</script>&amp;"\ufffd\ufffd'
  assert facts(root)['Method'] == shown
  assert any(row[0].startswith(shown) for row in rows(score_tables(root)[0]))
  assert chart(root, '<i>x<').find('svg') and len(root.find('script')) == 1
  assert all('legend' in p.attributes.get('class', '') for p in root.find('ul') if p.find('i'))


def decoded(image):
  data = image.attributes['src'].removeprefix('data:image/jpeg;base64,')
  return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), np.float32)


def test_a_slider_over_the_grids_begins_at_the_newest(run):
  steps = parse(report([run])).find('section', class_='steps')[0]
  slider = steps.find('input', type='range')[0].attributes
  assert (slider['min'], slider['max'], slider['value']) == ('0', '1', '1')
  assert steps.find('label')[0].attributes['for'] == slider['id']
  assert steps.find('label')[0].text() == 'Step 20'
  images = steps.find('img')
  assert [(image.attributes['alt'], 'hidden' in image.attributes) for image in images] == [
      ('Held-out captions at step 10', True), ('Held-out captions at step 20', False)]
  for image, step in zip(images, (10, 20)):
    found = [np.abs(decoded(image) - grid(other)).mean() for other in (step, 30 - step)]
    assert decoded(image).shape == grid(step).shape and 2 * found[0] < found[1]      # of noise


def test_one_grid_has_no_slider(tmp_path):
  root = parse(report([make(tmp_path / 'a', stages=[20])]))
  assert not root.find('input') and 'hidden' not in root.find('img')[0].attributes
  assert 'Step 20' in root.find('section', class_='steps')[0].text()


def test_of_many_grids_sixteen_are_shown_with_the_first_and_the_last(tmp_path):
  root = parse(report([make(tmp_path / 'a', stages=range(1, 41))]))
  steps = [image.attributes['data-step'] for image in root.find('img')]
  assert len(steps) == 16 and steps[0] == '1' and steps[-1] == '40'
  assert '16 of 40 grids' in root.text()


def test_pictures_stand_before_charts_and_tables(run):
  text = parse(report([run])).text()
  heads = ('Drawn from captions', 'Over the steps', 'Curves', 'Scores', 'Config')
  assert sorted(heads, key=text.index) == list(heads)


@pytest.mark.slow
def test_the_slider_moves_and_nothing_is_wider_than_a_phone(run):
  shown = "return [...document.querySelectorAll('.steps img')].filter(x => !x.hidden)"
  path = report([run])
  with browser.chromium() as driver, browser.served(run) as address:
    for dark in (False, True):
      browser.size(driver, 390, 800, dark)
      driver.get(address + path.name)
      width = 'return document.documentElement.scrollWidth'
      assert driver.execute_script(width) == 390
      assert (driver.execute_script('return getComputedStyle(document.body).backgroundColor')
              == ('rgb(21, 19, 28)' if dark else 'rgb(246, 244, 251)'))
    slider = driver.find_element('css selector', 'input[type=range]')
    slider.send_keys('\ue012')      # the arrow to the left
    assert [image.get_attribute('alt') for image in driver.execute_script(shown)] == [
        'Held-out captions at step 10']
    assert driver.find_element('css selector', 'output').text == '10'
    assert slider.get_attribute('aria-valuetext') == 'step 10'


def test_a_large_grid_is_scaled_down(tmp_path):
  folder = make(tmp_path / 'a')
  image_io.save_png(folder / 'images' / 'train_00000020.png', np.zeros((900, 3000, 3), np.uint8))
  assert decoded(parse(report([folder])).find('img')[0]).shape == (492, 1640, 3)


def test_the_config_has_all_keys_and_marks_those_that_differ(run):
  root = parse(report([run]))
  table = next(t for t in root.find('table') if t.find('th')[0].text() == 'Key')
  assert [row for row in rows(table) if row[0] in ('steps', 'model.size')] == [
      ['steps', '100000', '20'], ['model.size', '256', '32']]
  assert [cell.text() for cell in table.find('td', class_='mark')] == ['20', '32', '16']
  assert 'optim.g.lr = 0.0001' in [c.text() for c in root.find('code')]


@pytest.mark.parametrize('methods, default', [
    (['dm_gan'], '256'), (['scl'], '256'), (['dm_gan', 'xmc_gan'], '–'), (['unknown'], '–')])
def test_defaults_are_those_of_the_method(tmp_path, methods, default):
  runs = [make(tmp_path / name, settings={'method': name, **({'base': 'dm_gan'} if name == 'scl'
                                                              else {})}) for name in methods]
  table = next(t for t in parse(report(runs)).find('table') if t.find('th')[0].text() == 'Key')
  assert {row[0]: row[1] for row in rows(table)}['model.size'] == default


def test_several_runs_share_charts_and_tables(run, tmp_path):
  blue = make(tmp_path / 'blue', metrics((1, 20)), [{'value': 8.0}])
  path = report([run, blue])
  assert path == run / 'comparison.html'
  root = parse(path)
  assert legend(chart(root, 'joint/g_loss')) == {'red': '15', 'blue': '15'}
  np.testing.assert_allclose(drawn(chart(root, 'joint/g_loss'), 1)[1], [19.75, 15], atol=0.01)
  styles = ' '.join(p.attributes.get('style', '')
                    for p in chart(root, 'joint/g_loss').find('path'))
  assert 'var(--c0)' in styles and 'var(--c1)' in styles
  heads = [th.text() for th in score_tables(root)[0].find('th')]
  assert heads[3:] == ['red: Newest', 'red: Best', 'blue: Newest', 'blue: Best']
  assert rows(score_tables(root)[0])[0][3:] == [
      '12.5 at step 20', '9.25 at step 10', '8 at step 20', '8 at step 20']
  assert not root.find('p', class_='bad')


def test_runs_with_the_same_name_are_named_by_their_path(tmp_path):
  runs = [make(tmp_path / name / 'demo') for name in 'ab']
  assert list(legend(chart(parse(report(runs)), 'joint/g_loss'))) == [str(run) for run in runs]


def test_different_protocols_are_refused_unless_asked_for(run, tmp_path):
  other = make(tmp_path / 'coco', scores=[COCO])
  with pytest.raises(UserError, match='offline.*tf2015.*--across_protocols'):
    report([run, other])
  assert not (run / 'comparison.html').exists()
  root = parse(report([run, other], across_protocols=True))
  assert ['not comparable' in p.text() for p in root.find('p', class_='bad')] == [True]
  assert len(score_tables(root)) == 2


def test_semantic_object_accuracy_is_no_protocol_in_common(run, tmp_path):
  soa = {'protocol': 'soa', 'metric': 'SOA-C', 'value': 0.5}
  runs = [make(tmp_path / 'a', scores=[{}, soa]), make(tmp_path / 'b', scores=[COCO, soa])]
  with pytest.raises(UserError, match='offline.*tf2015.*--across_protocols'):
    report(runs)


def test_runs_with_one_protocol_in_common_are_not_refused(run, tmp_path):
  both = make(tmp_path / 'both', scores=[{}, COCO])
  unscored = make(tmp_path / 'unscored')
  assert len(score_tables(parse(report([run, both, unscored])))) == 2


def test_missing_files_are_mentioned(tmp_path):
  folder = make(tmp_path / 'a', [{'step': 3, 'loss': 1.0}])
  (folder / 'config.json').unlink()
  root = parse(report([folder]))
  for words in ('No scores yet', 'No images yet', 'no config.json'):
    assert words in root.text()
  assert facts(root) == {'Steps': '3'} and legend(chart(root, 'loss')) == {'loss': '1'}


def test_other_lines_are_shown_as_they_are(tmp_path):
  folder = make(tmp_path / 'a')
  lines = [{'metric': 'FID', 'value': 3.0}, {'alignment_16': 0.477, 'step': 4380},
           {'metric': 'IS', 'value': None},
           {'metric': 'KID', 'value': 1, 'step': 'x', 'fakes': 'y', 'spread': '?', 'differs': None}]
  (folder / 'scores.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines)
                                       + '{"metric": "cut of')
  root = parse(report([folder]))
  assert [rows(table) for table in score_tables(root)] == [
      [['FID', 'lower is better', '–', '3', '3']],
      [['KID', 'lower is better', '–', '1 at step x', '1 at step x']]]
  assert 'alignment_16 0.477, step 4380' in root.text()


def test_an_unfinished_last_line_is_dropped(run):
  with (run / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 30, "joint')
  assert facts(parse(report([run])))['Steps'] == '20 of 20'


@pytest.mark.parametrize('name, content, words', [
    ('metrics.jsonl', b'{"step": 1}\nnonsense\n', 'metrics.jsonl.*line 2'),
    ('metrics.jsonl', b'[1]\n', 'metrics.jsonl.*line 1'),
    ('metrics.jsonl', b'{"step": "x"}\n', 'metrics.jsonl.*line 1'),
    ('metrics.jsonl', b'{"step": 1' + 400 * b'0' + b'}\n', 'metrics.jsonl.*line 1'),
    ('metrics.jsonl', b'{"step": NaN}\n', 'metrics.jsonl.*line 1'),
    ('metrics.jsonl', b'\xff\xfe\n', 'metrics.jsonl'),
    ('metrics.jsonl', b'', 'metrics.jsonl.*no metrics'),
    ('scores.jsonl', b'nonsense\n', 'scores.jsonl.*JSON'),
    ('scores.jsonl', b'5\n', 'scores.jsonl, line 1.*not an object'),
    ('scores.jsonl', b'{"metric": "FID", "time": "now"}\n', 'scores.jsonl, line 1.*time'),
    ('scores.jsonl', b'{"devices": "a"}\n', 'devices'),
    ('scores.jsonl', b'{"commit": 7}\n', 'commit'),
    ('scores.jsonl', b'{}\n{"differs": 3}\n', 'line 2.*differs'),
    ('scores.jsonl', b'{"differs": [[]]}\n', 'differs'),
    ('scores.jsonl', 9999 * b'[' + b'\n', 'scores.jsonl, line 1'),
    ('config.json', b'{"steps": "many"}', 'config.json.*steps'),
    ('config.json', b'{"grid": [1]}', 'config.json.*grid'),
    ('config.json', b'7', 'config.json'), ('config.json', b'\xff', 'config.json'),
    ('scores.jsonl', b'\xff\n', 'scores.jsonl'),
    ('config.json', b'{', 'config.json'),
    ('config.json', b'[]', 'config.json'),
    ('images/heldout_00000020.png', b'PNG', 'heldout_00000020.png')])
def test_a_damaged_file_is_named_in_one_sentence(run, name, content, words):
  (run / name).write_bytes(content)
  with pytest.raises(UserError, match=words) as caught:
    report([run])
  assert '\n' not in str(caught.value)
  assert not (run / 'report.html').exists()


def test_a_folder_without_a_run_is_refused(run, tmp_path):
  with pytest.raises(UserError, match='nothing.*no run'):
    report([tmp_path / 'nothing'])
  with pytest.raises(UserError, match='no metrics.jsonl'):
    report([tmp_path])
  with pytest.raises(UserError, match='twice'):
    report([run, tmp_path / 'x' / '..' / 'red'])
  with pytest.raises(UserError, match='no run'):
    report([])


def test_the_page_is_written_to_out_completely_or_not_at_all(run, tmp_path):
  path = report([run], out=str(tmp_path / 'new' / 'page.html'))
  assert [p.name for p in (tmp_path / 'new').iterdir()] == ['page.html']
  before = path.read_text()
  (run / 'scores.jsonl').write_text('nonsense\n')
  with pytest.raises(UserError):
    report([run], out=str(path))
  assert path.read_text() == before
  with pytest.raises(UserError, match='--out.*page.html'):
    report([make(tmp_path / 'b')], out=str(path / 'page.html'))
  with pytest.raises(UserError, match=r'--out=.*new: cannot be written \(Is a directory\)'):
    report([tmp_path / 'b'], out=str(tmp_path / 'new'))


@pytest.mark.parametrize('module', ['jinja2', 'matplotlib'])
def test_without_the_extra_the_error_names_it(run, monkeypatch, module):
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(UserError, match=rf'{module}.*xmc_jax\[report\]') as caught:
    report([run])
  assert '\n' not in str(caught.value)
