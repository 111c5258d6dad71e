"""`xmc report`: the scores in a sentence, and as bars between chance and real images."""
import pytest
from pages import SCORE, make, parse

from xmc_jax.report import headline
from xmc_jax.report.report import report

ALIGNMENT = {'metric': 'alignment-16', 'value': 0.65}
REAL = {'metric': 'alignment-16 of real', 'value': 0.98}


def lines(*scores):
  return [SCORE | score for score in scores]


def values(runs):
  return [(share.title, [bar[1:3] for bar in share.bars()]) for share in headline.shares(runs)]


def test_the_sentence_and_the_bars_stand_on_the_page(tmp_path):
  root = parse(report([make(tmp_path / 'a', scores=[{}, ALIGNMENT, REAL])]))
  assert root.find('p', class_='headline')[0].text() == (
      'At step 20, the share of images that are nearest to their own caption among 16 is '
      '65 %; by chance it would be 6.2 %; real images reach 98 %.')
  share, = root.find('section', class_='share')
  assert share.find('h3')[0].text() == 'Images that are nearest to their own caption among 16'
  assert [row.text() for row in share.find('dl')[0].find('div')] == [
      'by chance 6.2 %', 'this run 65 %', 'real images 98 %']
  assert [bar.attributes['style'] for bar in share.find('i')] == [
      'width: 6.25%', 'width: 65.0%', 'width: 98.0%']


def test_chance_and_real_images_are_those_of_the_same_setting():
  scores = lines(ALIGNMENT, REAL | {'seed': 1, 'value': 0.5},
                 {'metric': 'objects: counts', 'value': 0.1},
                 {'metric': 'objects: counts by chance', 'value': 0.01},
                 {'metric': 'objects: counts by chance', 'value': 0.5, 'fakes': 10})
  assert values({'a': scores}) == [
      ('Images that are nearest to their own caption among 16',
       [('by chance', 0.0625), ('a', 0.65)]),
      ('Named objects that are found in the stated number', [('by chance', 0.01), ('a', 0.1)])]


def test_runs_with_a_chance_of_their_own_have_no_mark_of_one():
  """It is measured on the images of each."""
  run = lambda chance: lines({'metric': 'objects: counts', 'value': 0.1},
                             {'metric': 'objects: counts by chance', 'value': chance},
                             {'metric': 'objects: counts of real', 'value': 0.9})
  counts = 'Named objects that are found in the stated number'
  assert values({'a': run(0.02), 'b': run(0.12)}) == [
      (counts, [('a', 0.1), ('b', 0.1), ('real images', 0.9)])]
  assert values({'a': run(0.02)}) == [
      (counts, [('by chance', 0.02), ('a', 0.1), ('real images', 0.9)])]


@pytest.mark.parametrize('left_out', [
    {'step': 10, 'value': 0.9}, {'time': 1.0, 'value': 0.9}, {'weights': 'live', 'value': 0.9},
    {'weights_sha256': 'random', 'value': 0.9, 'step': 99}])
def test_the_newest_averaged_weights_count(left_out):
  for scores in ([ALIGNMENT, ALIGNMENT | left_out], [ALIGNMENT | left_out, ALIGNMENT]):
    share, = headline.shares({'a': lines(*scores)})
    assert share.values == {'a': 0.65} and share.step == 20


def test_several_runs_are_compared_in_the_setting_that_they_share():
  runs = {'a': lines(ALIGNMENT, ALIGNMENT | {'seed': 1, 'value': 0.9, 'step': 99}),
          'b': lines(ALIGNMENT | {'value': 0.5})}
  share, = headline.shares(runs)
  assert share.values == {'a': 0.65, 'b': 0.5}
  assert headline.sentence(runs).replace('\u00a0', ' ') == (
      'The share of images that are nearest to their own caption among 16 is 65 % for a and '
      '50 % for b; by chance it would be 6.2 %.')


def test_without_shares_the_distance_is_told():
  assert headline.sentence({'a': lines({'step': 1341, 'value': 244.37})}) == (
      'At step 1,341, FD-lite0 is 244.4; lower is better, and 0 is the least.')
  assert headline.sentence({'a': []}) == ''
  assert not headline.shares({'a': lines({}, {'metric': 'precision-lite0', 'value': 0.5})})


@pytest.mark.parametrize('value, text', [
    (0, '0 %'), (0.0061, '0.6 %'), (0.0625, '6.2 %'), (0.0996, '10 %'), (1, '100 %')])
def test_percent(value, text):
  assert headline.percent(value).replace('\u00a0', ' ') == text
