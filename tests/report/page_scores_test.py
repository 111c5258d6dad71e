"""`xmc report`: scores share a table only if they are comparable."""
import re

import pytest
from pages import COCO, chart, drawn, legend, make, parse, rows, score_tables

from xmc_jax.report.report import report
from xmc_jax.report.score_tables import PUBLISHED


def test_the_newest_and_the_best_score_and_how_they_were_measured(run):
  root = parse(report([run]))
  assert rows(score_tables(root)[0]) == [
      ['FD-lite0', 'lower is better', 'averaged', '12.5 at step 20', '9.25 at step 10'],
      ['FD-lite0', 'lower is better', 'live', '13.5 at step 20', '13.5 at step 20']]
  text = root.text()
  assert '1,000 fakes instead of 30,000' in text
  assert '1,000 fakes · 191 reals · against emoji/heldout' in text
  figure = chart(root, 'FD-lite0')
  assert legend(figure) == {'averaged': '12.5', 'live': '13.5'}
  steps, values = drawn(figure)
  assert steps == pytest.approx([10, 20], abs=0.01)
  assert values == pytest.approx([9.25, 12.5], abs=0.01)
  assert 'Published' not in text


@pytest.mark.parametrize('metric, best', [
    ('KID', 1), ('IS-lite0', 2), ('recall', 2), ('CMMD', 1), ('objects: kinds', 2),
    ('near-duplicates of training', 1), ('CLIP R-precision-100', 2),
    ('alignment-16 of real', None), ('new', None)])
def test_the_best_is_the_lowest_or_the_highest(tmp_path, metric, best):
  folder = make(tmp_path / 'a', scores=[{'metric': metric, 'value': 1.0, 'step': 10},
                                        {'metric': metric, 'value': 2.0}])
  cell = {1: '1 at step 10', 2: '2 at step 20', None: '–'}[best]
  assert rows(score_tables(parse(report([folder])))[0])[0][3:] == ['2 at step 20', cell]


def test_of_two_scores_of_one_step_the_newer_counts(tmp_path):
  folder = make(tmp_path / 'a', scores=[{'value': 5.0, 'time': 200.0}, {'value': 1.0}])
  assert rows(score_tables(parse(report([folder])))[0])[0][3:] == ['5 at step 20'] * 2


def test_spreads_real_values_and_chance_are_shown(tmp_path):
  root = parse(report([make(tmp_path / 'a', scores=[
      {'metric': 'alignment-16', 'value': 0.5, 'spread': 0.02},
      {'metric': 'alignment-16 of real', 'value': 0.58},
      {'metric': 'alignment-16 by chance', 'value': 0.0625}])]))
  assert [(row[0], row[3]) for row in rows(score_tables(root)[0])] == [
      ('alignment-16', '0.5 ± 0.02 at step 20'), ('alignment-16 of real', '0.58 at step 20'),
      ('alignment-16 by chance', '0.0625 at step 20')]
  figure = chart(root, 'alignment-16')
  assert legend(figure) == {'averaged': '0.5', 'of real': '0.58', 'by chance': '0.0625'}
  names = [node.attributes.get('id', '') for node in figure.find('g')]
  assert sum('LineCollection' in name for name in names) == 1      # the error bar


@pytest.mark.parametrize('other', [
    {'fakes': 500}, {'seed': 1}, {'protocol': 'tf2015'}, {'reference_sha256': '00'},
    {'captions_sha256': '00'}, {'size': 64}, {'weights_sha256': '00'}])
def test_scores_measured_differently_have_another_table(tmp_path, other):
  root = parse(report([make(tmp_path / 'a', scores=[{}, {'value': 1.0, **other}])]))
  assert [len(rows(table)) for table in score_tables(root)] == [1, 1]


def test_scores_by_random_weights_have_a_warning(tmp_path):
  root = parse(report([make(tmp_path / 'a', scores=[{'weights_sha256': 'random'}])]))
  assert any('random weights' in p.text() for p in root.find('p', class_='bad'))


@pytest.mark.parametrize('score, values', [
    (COCO, ['29.53', '24.24', '19.37']),
    (COCO | {'protocol': 'legacy-torchvision'}, ['19.32', '15.41']),
    (COCO | {'protocol': 'legacy-torchvision', 'size': 224}, ['5.85', '5.01']),
    (COCO | {'protocol': 'legacy-torchvision', 'data': 'cub'}, ['14.81', '12.10']),
    (COCO | {'protocol': 'legacy-keras', 'size': 128}, ['10.5 to 11.0']),
    (COCO | {'protocol': 'legacy-keras'}, []), (COCO | {'protocol': 'clean'}, []),
    (COCO | {'metric': 'KID'}, []), (COCO | {'data': 'emoji'}, [])])
def test_published_numbers_have_the_same_protocol_data_size_and_metric(tmp_path, score, values):
  root = parse(report([make(tmp_path / 'a', scores=[score])]))
  tables = [t for t in root.find('table') if 'Source' in [th.text() for th in t.find('th')]]
  assert [row[1] for table in tables for row in rows(table)] == values


def test_every_published_number_names_its_source():
  found = [row for table in PUBLISHED.values() for row in table]
  assert all(re.search(r'arXiv \d{4}\.\d{5}', source) for *_, source in found)
  assert '9.33' not in {value for _, value, *_ in found}   # its protocol is not known


def test_metrics_by_another_network_do_not_mention_the_resize_of_the_protocol(tmp_path):
  other = {'network': 'alignment_net_emoji', 'resize': None, 'side': None, 'distance': None,
           'weights_sha256': '00', 'metric': 'alignment-16', 'value': 0.5}
  root = parse(report([make(tmp_path / 'a', scores=[{}, other])]))
  heads = [h3.text() for h3 in root.find('h3') if h3.text().startswith('offline')]
  assert len(heads) == 2 and not any('None' in head for head in heads)
  assert sum('efficientnet-lite0 · antialiased_bilinear' in head for head in heads) == 1
  assert sum('alignment_net_emoji · seed 0' in head for head in heads) == 1


def test_chance_is_that_of_the_same_weights(tmp_path):
  lines = [{'metric': f'objects: objects{what}', 'value': value, 'weights': weights}
           for weights, own, chance in (('averaged', 0.6, 0.02), ('live', 0.1, 0.3))
           for what, value in (('', own), (' by chance', chance))]
  root = parse(report([make(tmp_path / 'a', scores=lines)]))
  found = [row for table in score_tables(root) for row in rows(table)]
  chances = {tuple(row) for row in found if 'by chance' in row[0]}
  assert len(chances) == 2, found
