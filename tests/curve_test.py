"""Evaluation at intervals inside training: which step was the best."""
import collections
import json
import re
import shutil

import pytest
import tiny

from xmc_jax import evaluator, trainer
from xmc_jax.cli.main import main
from xmc_jax.evals import results
from xmc_jax.types import NotFinite

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('toy', 'compiled_once')]


def argv(workdir, encoder, **settings):
  return tiny.train_argv(workdir, encoder, **{
      'data__loader': 'arrays', 'evals__every': 2, 'evals__protocol': 'toy', 'every__save': 3,
      'keep': 1, 'steps': 7} | settings)


def values(workdir, metric='FID'):
  """{step: its values, in the order in which they were written}."""
  found = collections.defaultdict(list)
  for line in results.read(workdir):
    if line['metric'] == metric:
      found[line['step']].append(line['value'])
  return dict(found)


def steps(workdir):
  return sorted(int(path.name) for path in (workdir / 'checkpoints').iterdir())


@pytest.mark.parametrize('flag, metric, better', [('', 'FID', min), ('recall', 'recall', max)])
def test_the_best_step_is_told_and_its_checkpoint_stays(
    tmp_path, encoder_folder, capsys, flag, metric, better):
  run = tmp_path / 'run'
  assert main(argv(run, encoder_folder, keep_every=6, evals__best=flag)) == 0
  told, found = capsys.readouterr().out, values(run, metric)
  assert list(found) == [2, 4, 6, 7]
  best = better(found, key=lambda step: found[step])
  assert f'best so far by {metric}: step {best:,} with' in told
  assert re.search(rf'Done: 7 steps; best so far by {metric}: step {best:,} with', told)
  assert steps(run) == sorted({6, 7, best})
  assert {line['weights'] for line in results.read(run)} == {'averaged'}


def test_a_step_without_the_score_that_decides_is_none_of_the_best(
    tmp_path, encoder_folder, monkeypatch):
  """So it is with the precision of objects while a detector finds none."""
  run, score = tmp_path / 'run', evaluator.Evaluator.score
  undefined = lambda line: line['metric'] == 'recall' and line['step'] == 2
  monkeypatch.setattr(evaluator.Evaluator, 'score', lambda self, model: [
      line for line in score(self, model) if not undefined(line)])
  settings = dict(evals__best='recall', keep=9)
  assert main(argv(run, encoder_folder, steps=2, **settings)) == 0
  assert list(values(run)) == [2] and values(run, 'recall') == {}
  assert main(argv(run, encoder_folder, steps=4, **settings)) == 0      # which does not repeat it
  assert {step: len(found) for step, found in values(run).items()} == {2: 1, 4: 1}
  assert list(values(run, 'recall')) == [4]


def test_the_scores_are_those_of_xmc_evaluate(tmp_path, encoder_folder):
  run = tmp_path / 'run'
  assert main(argv(run, encoder_folder, keep=9, steps=4)) == 0
  inside = values(run)
  (run / results.FILE).unlink()
  assert main(['xmc', 'evaluate', f'--workdir={run}', '--every']) == 0
  outside = values(run)
  for step in (2, 4):
    assert inside[step] == pytest.approx(outside[step], rel=1e-4)


def test_a_resumed_run_makes_up_for_a_missing_evaluation_and_repeats_none(
    tmp_path, encoder_folder, monkeypatch, capsys):
  run, straight = tmp_path / 'run', tmp_path / 'straight'
  assert main(argv(straight, encoder_folder, steps=6)) == 0

  class Killed(BaseException):
    pass

  def kill(*_):
    raise Killed
  with monkeypatch.context() as patch:      # after the checkpoint of step 4, before its scores
    append = results.append
    patch.setattr(evaluator.results, 'append', lambda workdir, lines: (
        kill if lines[0]['step'] == 4 else append)(workdir, lines))
    with pytest.raises(Killed):
      main(argv(run, encoder_folder, steps=6))
  assert list(values(run)) == [2] and steps(run)[-1] == 4
  assert main(argv(run, encoder_folder, steps=6)) == 0
  assert values(run) == values(straight) and list(values(run)) == [2, 4, 6]
  capsys.readouterr()
  assert main(argv(run, encoder_folder, steps=8)) == 0      # 6 is known, 8 is new
  assert {step: len(found) for step, found in values(run).items()} == {2: 1, 4: 1, 6: 1, 8: 1}
  best = min(values(run), key=lambda step: values(run)[step])
  assert f'step {best} with' in capsys.readouterr().out and best in steps(run)


def test_the_best_step_is_one_whose_checkpoint_is_there(
    tmp_path, encoder_folder, monkeypatch, capsys):
  """By another score than before, the best step may be one that was deleted long ago."""
  score, run = evaluator.Evaluator.score, tmp_path / 'run'
  given = {'FID': {2: 3, 4: 5, 6: 8, 8: 8}, 'recall': {2: .2, 4: .9, 6: .5, 8: .4}}

  def scored(self, model):
    return [line | {'value': given.get(line['metric'], {}).get(model.step, line['value'])}
            for line in score(self, model)]
  monkeypatch.setattr(evaluator.Evaluator, 'score', scored)
  settings = dict(keep=1, every__save=100)
  assert main(argv(run, encoder_folder, steps=6, **settings)) == 0
  assert steps(run) == [2, 6]
  assert main(argv(run, encoder_folder, steps=8, evals__best='recall', **settings)) == 0
  assert 'best so far by recall: step 6 with' in capsys.readouterr().out and steps(run) == [6, 8]


@pytest.fixture
def rising(monkeypatch):
  """FID is the number of the step, so the first is the best."""
  score = evaluator.Evaluator.score
  monkeypatch.setattr(evaluator.Evaluator, 'score', lambda self, model: [
      line | ({'value': model.step} if line['metric'] == 'FID' else {})
      for line in score(self, model)])


def test_a_finished_run_keeps_its_checkpoints_whatever_is_asked_of_it(
    tmp_path, encoder_folder, rising):
  run = tmp_path / 'run'
  settings = dict(keep=1, every__save=100, evals__every=1, steps=3)
  assert main(argv(run, encoder_folder, **settings)) == 0
  assert steps(run) == [1, 3]
  assert main(argv(run, encoder_folder, **settings, evals__fakes=40)) == 0
  assert steps(run) == [1, 3]


def test_the_best_step_stays_without_evaluations(tmp_path, encoder_folder, rising, capsys):
  run = tmp_path / 'run'
  settings = dict(keep=1, every__save=1)
  assert main(argv(run, encoder_folder, **settings, evals__every=1, steps=2)) == 0
  assert steps(run) == [1, 2]
  assert main(argv(run, encoder_folder, **settings, evals__every=0, steps=4)) == 0
  assert 'The checkpoint of step 1 stays, the best by FID' in capsys.readouterr().out
  assert steps(run) == [1, 4]
  shutil.rmtree(run / 'checkpoints' / '1')
  assert main(argv(run, encoder_folder, **settings, evals__every=0, steps=5)) == 0
  assert 'The checkpoint of step' not in capsys.readouterr().out and steps(run) == [5]


def test_the_best_step_by_other_settings_stays_until_their_first_evaluation(
    tmp_path, encoder_folder, rising, capsys):
  run = tmp_path / 'run'
  settings = dict(keep=1, every__save=1)
  assert main(argv(run, encoder_folder, **settings, evals__every=1, steps=2)) == 0
  other = dict(settings, evals__every=6, evals__fakes=40)
  assert main(argv(run, encoder_folder, **other, steps=6)) == 0
  assert 'until the next one' in capsys.readouterr().out and steps(run) == [6]


def test_other_scores_of_the_last_step_do_not_count(tmp_path, encoder_folder):
  run = tmp_path / 'run'
  assert main(argv(run, encoder_folder, steps=2)) == 0
  expected = values(run)
  (run / results.FILE).unlink()
  assert main(['xmc', 'evaluate', f'--workdir={run}', '--fakes=40']) == 0
  assert main(argv(run, encoder_folder, steps=2)) == 0
  assert values(run)[2][-1:] == expected[2] and len(values(run)[2]) == 2


def test_a_stop_is_not_delayed_by_an_evaluation(tmp_path, encoder_folder, monkeypatch):
  class Stop(trainer.contextlib.ExitStack):
    requested = True
  run = tmp_path / 'run'
  with monkeypatch.context() as patch:
    patch.setattr(trainer, 'StopSignal', Stop)
    assert main(argv(run, encoder_folder, evals__every=1)) == 0
  assert values(run) == {}
  assert main(argv(run, encoder_folder, evals__every=1, steps=2)) == 0
  assert list(values(run)) == [1, 2]


def test_a_finished_run_makes_up_for_its_last_evaluation(tmp_path, encoder_folder, capsys):
  run = tmp_path / 'run'
  assert main(argv(run, encoder_folder, steps=2)) == 0
  expected = values(run)
  (run / results.FILE).unlink()
  assert main(argv(run, encoder_folder, steps=2)) == 0
  assert values(run) == expected and 'is finished' in capsys.readouterr().out
  assert main(argv(run, encoder_folder, steps=2)) == 0
  assert values(run) == expected                    # and not once more


def test_scores_that_are_not_finite_do_not_end_the_training(
    tmp_path, encoder_folder, monkeypatch, capsys):
  def score(self, model):
    raise NotFinite('FID came out as nan')
  monkeypatch.setattr(evaluator.Evaluator, 'score', score)
  assert main(argv(tmp_path / 'run', encoder_folder, steps=4)) == 0
  told = capsys.readouterr().out
  assert 'step 2 has no scores: FID came out as nan' in told and 'Done: 4 steps' in told


@pytest.mark.parametrize('settings, words', [
    ({'evals__best': 'beauty'}, ['--config.evals.best=beauty', 'FID']),
    ({'evals__best': 'SOA-C', 'evals__every': 1}, ['--config.evals.best=SOA-C', 'one of FID']),
    ({'evals__best': 'KID-lite0', 'evals__every': 9}, ['evals.best=KID-lite0', 'one of FID']),
    ({'evals__best': 'FID', 'evals__every': 0}, ['--config.evals.best=FID', 'evals.every']),
    ({'evals__every': -1}, ['--config.evals.every=-1']),
    ({'keep_every': -1}, ['--config.keep_every=-1']),
    ({'evals__protocol': 'tf2015'}, ['inception-tf2015'])])
def test_mistakes(tmp_path, encoder_folder, capsys, monkeypatch, settings, words):
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(tmp_path))
  assert main(argv(tmp_path / 'run', encoder_folder, **settings)) == 2
  told = capsys.readouterr().err
  assert all(word in told for word in words) and told.count('\n') == 1


def test_a_run_of_before_these_keys_resumes_without_its_config(trained, tmp_path):
  run = shutil.copytree(trained, tmp_path / 'run')
  config = json.loads((run / 'config.json').read_text())
  del config['keep_every'], config['evals']['every'], config['evals']['best']
  (run / 'config.json').write_text(json.dumps(config))
  assert main(['xmc', 'train', f'--workdir={run}', '--config.steps=5']) == 0
