"""benchmarks/ablation.py: its plan, and its tables against figures by hand."""
import dataclasses
import json

import pytest

from benchmarks import ablation, results
from xmc_jax.cli import config_file

QUESTION = ablation.Question('A title', 'demo', (), {'none': (), 'both': ()}, minutes=3, steps=10,
                             seeds=2)


def line(row, seed, alignment):
  """Two points: after 10 and after 20 steps, when alignment has risen by 0.1."""
  score = lambda value: {'alignment-16': value, 'FD-lite0': 100.0, 'KID-lite0': 0.1}
  return {'run': f'q/{row}/{seed}', 'core_minutes': 3.0,
          'scores': {'10': score(alignment), '20': score(alignment + 0.1)}}


@pytest.fixture
def lines(monkeypatch, tmp_path):
  monkeypatch.setattr(ablation, 'QUESTIONS', {'q': QUESTION})
  monkeypatch.setattr(ablation, 'RESULTS', tmp_path / 'ablation.jsonl')
  found = [line('none', 0, 0.2), line('none', 1, 0.3), line('both', 0, 0.3), line('both', 1, 0.5)]
  ablation.RESULTS.write_text(''.join(json.dumps(x) + '\n' for x in found))


def test_tables_have_means_spreads_and_differences_of_the_same_seed(lines):
  rows = [[cell.strip() for cell in row.split('|')[1:-1]]
          for row in ablation.tables().splitlines() if row.startswith('|')]
  assert rows[2] == ['none', '2', '10', '1.5', '100.0 ± 0.0', '100.0 ± 0.0', '25.0 ± 7.1', '']
  assert rows[3][2:] == ['10', '1.5', '100.0 ± 0.0', '100.0 ± 0.0', '40.0 ± 14.1', '+15.0 ± 7.1']
  assert rows[-1][2:] == ['20', '3.0', '100.0 ± 0.0', '100.0 ± 0.0', '50.0 ± 14.1', '+15.0 ± 7.1']


def test_a_question_of_one_row_compares_nothing(lines):
  text = ablation.RESULTS.read_text().splitlines()
  ablation.RESULTS.write_text('\n'.join(text[:2]) + '\n')
  assert ablation.tables() == ''


def test_what_is_known_is_not_run_again(lines, monkeypatch, capsys):
  ran = []
  monkeypatch.setattr(ablation, 'execute', lambda run, core: (
      ran.append(run.name), line(run.row, run.seed, 0.4))[1])
  text = ablation.RESULTS.read_text().splitlines()
  ablation.RESULTS.write_text('\n'.join(text[:-1]) + '\n')
  run = lambda: results.run_missing(ablation.RESULTS, ablation.runs(), 'q/', ablation.execute)
  run()
  assert ran == ['q/both/1'] and results.known(ablation.RESULTS).keys() == {
      f'q/{row}/{seed}' for row in ('none', 'both') for seed in (0, 1)}
  run()
  assert len(ran) == 1


def test_a_text_encoder_is_trained_before_the_runs_that_read_with_it(lines, tmp_path, monkeypatch):
  encoded = dataclasses.replace(QUESTION, encoder=('--config', 'damsm_emoji'))
  monkeypatch.setattr(ablation, 'QUESTIONS', {'q': QUESTION, 'with': encoded})
  monkeypatch.setattr(ablation, 'RUNS', tmp_path)
  ran = []
  monkeypatch.setattr(ablation.subprocess, 'run', lambda argv, **_: ran.append(argv))
  assert ablation.text_encoder(ablation.Run('q', 'none', 0), ['xmc']) == () and not ran
  folder = tmp_path / 'encoder-with'
  for seed in (0, 1):
    assert ablation.text_encoder(ablation.Run('with', 'none', seed), ['xmc']) == (
        f'--config.text.encoder={folder / "encoder"}',)
  assert ran == 2 * [['xmc', 'train', '--config', 'damsm_emoji', '--workdir', str(folder)]]


def test_flags_of_text_encoders_are_known():
  for question in ablation.QUESTIONS.values():
    if question.encoder:
      _, config, *flags = question.encoder
      config_file.load(config, flags)


def test_runs_come_seed_by_seed():
  names = [run.name for run in ablation.runs()]
  assert len(set(names)) == len(names) == len({run.folder for run in ablation.runs()})
  assert [name.rpartition('/')[2] for name in names] == sorted(
      name.rpartition('/')[2] for name in names)


@pytest.mark.parametrize('name', ablation.QUESTIONS)
def test_the_configs_have_what_the_rows_set(name):
  question = ablation.QUESTIONS[name]
  flags = [question.flags_of(row) for row in question.rows]
  configs = [config_file.load(name, overrides).to_json() for _, name, *overrides in flags]
  assert len(set(configs)) == len(configs)


def test_a_page_without_the_marks_is_refused(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text('a\n<!-- t -->\nold\n<!-- end of t -->\nb\n')
  results.insert(page, 't', 'new')
  assert page.read_text() == 'a\n<!-- t -->\n\nnew\n\n<!-- end of t -->\nb\n'
  with pytest.raises(SystemExit, match='missing'):
    results.insert(page, 'other', 'new')
