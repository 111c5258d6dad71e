"""Lines of scores and what they say of themselves."""

import concurrent.futures
import shutil
import subprocess

import numpy as np
import pytest

from xmc_jax.evals import results
from xmc_jax.evals.scores import Score
from xmc_jax.types import UserError

SCORES = [Score('FID', 12.346, None), Score('IS', 3.25, 0.125)]


def test_every_number_carries_the_whole_manifest_and_comes_back(tmp_path):
  lines = results.lines(SCORES, {'protocol': 'tf2015', 'fakes': 10, **results.environment()})
  results.append(tmp_path / 'run', lines[:1])
  results.append(tmp_path / 'run', lines[1:])
  found = results.read(tmp_path / 'run')
  assert found == lines
  assert [(x['metric'], x['value'], x['spread']) for x in found] == [
      ('FID', 12.346, None), ('IS', 3.25, 0.125)]
  for line in found:
    assert line['protocol'] == 'tf2015' and line['fakes'] == 10
    assert {'xmc_jax', 'commit', 'device', 'devices', 'jax', 'jaxlib', 'numpy'} <= line.keys()


def test_line_that_a_killed_run_left_unfinished_is_dropped(tmp_path):
  results.append(tmp_path, results.lines(SCORES, {}))
  with (tmp_path / results.FILE).open('a') as file:
    file.write('{"metric": "F')
  assert len(results.read(tmp_path)) == 2
  results.append(tmp_path, results.lines(SCORES, {}))
  assert len(results.read(tmp_path)) == 4
  assert results.read(tmp_path / 'none') == []


def _appends(folder):
  for _ in range(100):
    results.append(folder, [{'metric': 'FID', 'value': 1.0, 'long': 'x' * 2000}] * 10)


def test_two_may_append_at_the_same_time(tmp_path):
  with concurrent.futures.ThreadPoolExecutor(2) as pool:      # a lock of the file is per opening
    list(pool.map(_appends, [tmp_path] * 2))
  assert len(results.read(tmp_path)) == 2000


def test_line_that_is_not_json_is_named(tmp_path):
  (tmp_path / results.FILE).write_text('FID 3\n')
  with pytest.raises(UserError, match='scores.jsonl'):
    results.read(tmp_path)


def test_folder_that_cannot_be_written_to(tmp_path):
  (tmp_path / 'run').write_text('')
  with pytest.raises(UserError, match='cannot be written'):
    results.append(tmp_path / 'run', results.lines(SCORES, {}))


def test_the_commit_is_none_in_the_checkout_of_something_else(tmp_path, monkeypatch):
  git = lambda *words: subprocess.run(
      ['git', '-C', tmp_path, '-c', 'user.name=a', '-c', 'user.email=a@b', *words], check=True)
  git('init', '--quiet')
  git('commit', '--quiet', '--allow-empty', '--message', 'theirs')
  installed = tmp_path / '.venv' / 'xmc_jax' / 'evals' / 'results.py'
  installed.parent.mkdir(parents=True)
  shutil.copy(results.__file__, installed)
  monkeypatch.setattr(results, '__file__', str(installed))
  assert results._commit() is None
  git('add', '--force', str(installed))
  git('commit', '--quiet', '--message', 'ours')
  assert len(results._commit()) == 40


def test_more_is_better_of_shares_of_captions_found():
  for name in ('CLIP R-precision-100', 'DAMSM R-precision-100 (in training)'):
    assert results.better(name) is max
  assert results.better('DAMSM R-precision-100 (in training) of real') is None


def test_protocols_are_not_mixed():
  results.refuse_mixed(['clean', 'clean'], '--protocol')
  with pytest.raises(UserError, match='clean and tf2015 are different protocols.*--protocol'):
    results.refuse_mixed(['tf2015', 'clean'], '--protocol')


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_score_that_is_no_number_is_refused(value):
  results.refuse_nonfinite(SCORES)
  with pytest.raises(UserError, match='KID came out as'):
    results.refuse_nonfinite([*SCORES, Score('KID', value)])


def test_table_shows_each_metric_once():
  table = results.table(results.lines(SCORES, {}))
  assert table.splitlines() == ['  FID  12.35', '  IS   3.2500 ± 0.1250']
