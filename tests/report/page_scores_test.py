"""`xmc report`: the scores, only what may be compared side by side."""
import re

import pytest
from pages import COCO, chart, legend, make, parse, rows, score_tables

from xmc_jax.report import score_tables as page_scores
from xmc_jax.report.report import report


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
def test_published_numbers_are_of_the_same_protocol_data_size_and_metric(tmp_path, score, values):
  root = parse(report([make(tmp_path / 'a', scores=[score])]))
  tables = [t for t in root.find('table') if 'Source' in [th.text() for th in t.find('th')]]
  assert [row[1] for table in tables for row in rows(table)] == values


def test_every_published_number_names_its_source():
  assert all(re.search(r'arXiv \d{4}\.\d{5}', p.source) for p in page_scores.PUBLISHED)
  assert '9.33' not in {p.value for p in page_scores.PUBLISHED}   # its protocol is not known


def test_a_measure_by_another_network_says_nothing_of_the_protocols_resize(tmp_path):
  other = {'network': 'judge_emoji', 'resize': None, 'side': None, 'distance': None,
           'weights_sha256': '00', 'metric': 'alignment-16', 'value': 0.5}
  root = parse(report([make(tmp_path / 'a', scores=[{}, other])]))
  heads = [h3.text() for h3 in root.find('h3') if h3.text().startswith('offline')]
  assert len(heads) == 2 and not any('None' in head for head in heads)
  assert sum('efficientnet-lite0 · antialiased_bilinear' in head for head in heads) == 1
  assert sum('judge_emoji · seed 0' in head for head in heads) == 1
