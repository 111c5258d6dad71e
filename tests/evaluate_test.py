"""Scores of runs, end to end, with a toy network in place of Inception."""
import functools
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import tiny
import torch_writer
import toy_protocol
from safetensors import numpy as safetensors_numpy
from toy_protocol import by_metric

from xmc_jax import evaluator as module
from xmc_jax.cli.main import main
from xmc_jax.encoders import clip
from xmc_jax.evals import (
  duplicates,
  embeddings,
  extra_metrics,
  feature_cache,
  kernels,
  results,
  scores,
)
from xmc_jax.evals.frechet import frechet_of_features
from xmc_jax.evals.networks import alignment_net
from xmc_jax.types import UserError
from xmc_jax.utils.hashing import file_sha256

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('toy', 'compiled_once')]


@pytest.fixture
def run(trained, tmp_path):
  workdir = shutil.copytree(trained, tmp_path / 'run')
  (workdir / results.FILE).unlink(missing_ok=True)
  return workdir


def evaluate(workdir, *flags):
  assert main(['xmc', 'evaluate', f'--workdir={workdir}', '--protocol=toy', *flags]) == 0
  return results.read(workdir)


def test_run_is_scored_with_a_manifest_for_every_number(run, capsys):
  lines = evaluate(run)
  assert {line['metric'] for line in lines} == {
      'FID', 'KID', 'IS', 'precision', 'recall', 'density', 'coverage', 'alignment-16',
      'alignment-16 of real'}
  for line in lines:
    assert np.isfinite(line['value'])
    assert line['step'] == 4 and line['weights'] == 'averaged' and line['protocol'] == 'toy'
    own = line['metric'].startswith('alignment')       # by another network than the protocol's
    expected = (('alignment_net_emoji', file_sha256(alignment_net.path_of('emoji'))) if own
                else ('toy', toy_protocol.HASH))
    assert (line['network'], line['weights_sha256']) == expected
    assert line['fakes'] == 20 and line['reals'] == 198
    assert line['reference'] == 'emoji/heldout' and len(line['reference_sha256']) == 64
    assert len(line['captions_sha256']) == 64 and line['seed'] == 0 and line['differs'] == []
  shown = capsys.readouterr().out
  assert 'step 4, averaged weights, toy: 20 images against 198 of emoji/heldout' in shown
  assert 'FID' in shown and list((run / 'tensorboard').iterdir())


def test_numbers_are_the_formula_of_the_images_that_the_model_generates(run, monkeypatch):
  lines = by_metric(evaluate(run))
  model = module.TextToImage.load(run)
  heldout = module.sources.load('emoji', 'heldout', 32)
  rows, which = module.choose_captions(heldout, 20, 0)
  captions = [heldout.captions(i)[k] for i, k in zip(rows, which)]
  fakes = np.round(np.clip(model.generate(captions, seed=0), 0, 1) * 255)

  def features(images):
    # From 32 to 4 pixels, the corner of every 8 x 8: what TensorFlow 1's bilinear takes.
    x = (images[:, ::8, ::8].astype(np.float64) - 128) / 128
    return np.tanh(x.reshape(len(x), -1) @ toy_protocol.MATRIX)
  expected = frechet_of_features(features(fakes), features(heldout.images))
  assert lines['FID'] == pytest.approx(expected, rel=1e-4)


def test_seed_decides_and_counts_are_recorded(run):
  first = by_metric(evaluate(run, '--fakes=40'))
  (run / results.FILE).unlink()
  assert by_metric(evaluate(run, '--fakes=40')) == first
  (run / results.FILE).unlink()
  other = evaluate(run, '--fakes=40', '--seed=1')
  assert by_metric(other)['FID'] != first['FID']
  assert other[0]['differs'] == ['40 fakes instead of 20']


def test_every_checkpoint_live_and_averaged(run):
  lines = evaluate(run, '--every', '--weights=averaged,live')
  found = {(line['step'], line['weights']): line['value'] for line in lines
           if line['metric'] == 'FID'}
  assert found.keys() == {(step, kind) for step in (2, 4) for kind in ('averaged', 'live')}
  assert len(set(found.values())) == 4


def test_follow_ends_with_the_run(run, capsys):
  steps = {line['step'] for line in evaluate(run, '--follow')}
  assert steps == {2, 4} and 'waiting' not in capsys.readouterr().out


def test_follow_passes_over_checkpoints_that_the_training_has_deleted(run, capsys):
  model = types.SimpleNamespace(config=types.SimpleNamespace(steps=4), step=4)
  steps = module._steps(run, model, every=False, follow=True)
  shutil.copytree(run / 'checkpoints' / '2', run / 'checkpoints' / '3')
  assert next(steps) == 2
  shutil.rmtree(run / 'checkpoints' / '3')
  assert list(steps) == [4]
  assert 'step 3: the training has deleted its checkpoint' in capsys.readouterr().out


def test_a_checkpoint_that_goes_after_it_was_listed_is_passed_over(run, monkeypatch, capsys):
  at = module.TextToImage.at

  def deleted(self, step=None, *, live=False):
    if live and step == 2:
      shutil.rmtree(run / 'checkpoints' / '2')
    return at(self, step, live=live)
  monkeypatch.setattr(module.TextToImage, 'at', deleted)
  lines = evaluate(run, '--every', '--weights=averaged,live')
  assert {(line['step'], line['weights']) for line in lines} == {
      (2, 'averaged'), (4, 'averaged'), (4, 'live')}
  assert 'step 2: the training has deleted its checkpoint' in capsys.readouterr().out


def test_follow_waits_for_checkpoints_to_come(run, monkeypatch, capsys):
  last = run / 'checkpoints' / '4'
  away = shutil.move(last, run / 'away')
  # Of this module alone: others sleep too.
  monkeypatch.setattr(module, 'time', types.SimpleNamespace(
      sleep=lambda _: shutil.move(away, last)))
  assert {line['step'] for line in evaluate(run, '--follow')} == {2, 4}
  assert 'waiting for the checkpoints of a run of 4 steps' in capsys.readouterr().out


def test_what_the_same_commit_measured_is_not_measured_again(run, monkeypatch):
  facts = results.environment() | {'commit': 'abc'}
  monkeypatch.setattr(results, 'environment', lambda: facts)
  lines = evaluate(run)
  monkeypatch.setattr(module.Evaluator, 'score', None)
  assert evaluate(run) == lines
  again = lambda: main(['xmc', 'evaluate', f'--workdir={run}', '--protocol=toy'])
  with monkeypatch.context() as patch:
    patch.setitem(facts, 'commit', 'abd')
    with pytest.raises(TypeError):
      again()
  # Another checkpoint of the same step: of an import, or of a training that went back.
  monkeypatch.setattr(module.TextToImage, 'fingerprint', lambda self: 'other')
  with pytest.raises(TypeError):
    again()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed(
    run, monkeypatch, capsys):
  monkeypatch.setattr(module, 'FeatureCollector', None)
  (run / '.scores.lock').unlink(missing_ok=True)
  (run / '.scores.lock').mkdir()
  assert main(['xmc', 'evaluate', f'--workdir={run}', '--protocol=toy']) == 2
  assert 'scores.jsonl cannot be written' in capsys.readouterr().err


def start(workdir, devices, *flags):
  environment = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(devices),
                 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', **tiny.LEAN}
  argv = [sys.executable, toy_protocol.__file__, 'evaluate', f'--workdir={workdir}',
          '--protocol=toy', '--fakes=40', *flags]
  return subprocess.Popen(argv, cwd=tiny.ROOT, text=True, env=os.environ | environment,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_two_processes_of_two_devices_and_one_of_one_give_the_same_numbers(run, tmp_path):
  alone = shutil.copytree(run, tmp_path / 'alone')
  address = f'--coordinator=127.0.0.1:{tiny.free_port()}'
  started = [start(alone, 1), *(start(run, 2, address, '--processes=2', f'--process={i}')
                                for i in range(2))]
  for process in started:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
  one, two = results.read(alone), results.read(run)
  assert [line['devices'] for line in (one[0], two[0])] == [1, 4] and len(one) == len(two) == 9
  for a, b in zip(one, two):
    assert a['metric'] == b['metric']
    assert b['value'] == pytest.approx(a['value'], rel=1e-9), a['metric']


@pytest.fixture
def clips(tmp_path, monkeypatch):
  """Both CLIPs that metrics use, tiny and random, where weights are looked for."""
  tool = tiny.script('tools/clip_goldens.py')
  sizes = {'vocab_size': 514 + len(tool.MERGES), 'max_position_embeddings': 77}
  config = tool.QUICK | {'text_config': tool.QUICK['text_config'] | sizes}
  for name in (clip.BASE, clip.LARGE):
    tool.write(tmp_path / name, config)
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(tmp_path))


def test_clip_metrics_are_those_of_the_images_that_the_model_generates(run, clips):
  lines = evaluate(run, '--metrics=clip,cmmd', '--fakes=150')
  found = by_metric(lines)
  model = module.TextToImage.load(run)
  heldout = module.sources.load('emoji', 'heldout', 32)
  rows, which = module.choose_captions(heldout, 150, 0)
  captions = [heldout.captions(i)[k] for i, k in zip(rows, which)]
  fakes = np.round(np.clip(model.generate(captions, seed=0), 0, 1) * 255).astype(np.uint8)
  encoder = embeddings.of_clip(clip.BASE)
  cosines = (encoder.images(fakes) * encoder.captions(captions)).sum(1)
  assert found['CLIP score'] == pytest.approx(100 * cosines.mean(), rel=1e-4)
  expected = kernels.cmmd(encoder.images(fakes), encoder.images(heldout.images))
  assert found['CMMD'] == pytest.approx(expected, rel=1e-3)
  assert 0 <= found['CLIP R-precision-100'] <= 1
  networks = {line['metric']: line['network'] for line in lines}
  assert networks['CLIP score'] == clip.BASE and networks['CMMD'] == clip.LARGE
  assert {line['extra_metrics'][0] for line in lines} == {'clip'}


def test_a_clip_that_was_in_the_generators_losses_is_marked(run, clips, monkeypatch):
  monkeypatch.setattr(module, 'find_text_encoder', lambda *_: clip.BASE)
  found = by_metric(evaluate(run, '--metrics=clip', '--fakes=150'))
  assert {'CLIP score (in training)', 'CLIP R-precision-100 (in training)'} <= found.keys()
  assert not {'CLIP score', 'CLIP R-precision-100'} & found.keys()


def test_it_is_marked_in_another_file_format_too(run, clips, monkeypatch, tmp_path):
  other = shutil.copytree(tmp_path / clip.BASE, tmp_path / 'own')
  tensors = safetensors_numpy.load_file(other / 'model.safetensors')
  torch_writer.write(other / 'pytorch_model.bin', tensors, zipped=True)
  (other / 'model.safetensors').unlink()
  monkeypatch.setattr(module, 'find_text_encoder', lambda *_: str(other))
  assert 'CLIP score (in training)' in by_metric(evaluate(run, '--metrics=clip', '--fakes=150'))


@pytest.mark.parametrize('metric, words', [('clip', '100 candidates'), ('duplicates', 'held-out')])
def test_too_few_captions_or_images_are_told_before_any_is_generated(
    run, clips, metric, words, monkeypatch, capsys):
  monkeypatch.setattr(module.Evaluator, 'score', None)
  if metric == 'duplicates':
    monkeypatch.setattr(extra_metrics, 'check_heldout',
                        functools.partial(duplicates.check_heldout, quantile=1e-3))
  assert main(['xmc', 'evaluate', f'--workdir={run}', '--protocol=toy',
               f'--metrics={metric}']) == 2
  assert words in capsys.readouterr().err


def test_near_duplicates_of_the_training_images_are_counted(run):
  assert 0 <= by_metric(evaluate(run, '--metrics=duplicates'))['near-duplicates of training'] <= 1


def test_scores_with_facts_of_their_own_are_found_again(run, monkeypatch):
  """The line of near-duplicates names held-out images, whatever the reference of the others."""
  monkeypatch.setattr(results, 'environment', lambda: {'commit': 'abc'})
  load = module.TextToImage.load

  def of_train(*args, **options):
    model = load(*args, **options)
    with model.config.unlocked():
      model.config.evals.reference = 'train'
    return model
  monkeypatch.setattr(module.TextToImage, 'load', of_train)
  first = evaluate(run, '--metrics=duplicates')
  assert {line['reference'] for line in first} == {'emoji/train', 'emoji/heldout'}
  assert evaluate(run, '--metrics=duplicates') == first


@pytest.mark.parametrize('flags, words', [
    (['--protocol=fid'], 'choose one of tf2015'),
    (['--protocol=toy', '--metrics=beauty'], 'unknown metric'),
    (['--protocol=toy', '--step=3'], 'no checkpoint of step 3'),
    (['--protocol=toy', '--weights=best'], 'averaged, live'),
    (['--protocol=toy', '--fakes=5'], '--fakes=5: must be at least 6'),
    (['--protocol=tf2015'], 'inception-tf2015')])
def test_mistakes_with_runs(run, capsys, flags, words, monkeypatch, tmp_path):
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(tmp_path))
  monkeypatch.setattr(feature_cache, 'features', None)      # they are found before any is computed
  assert main(['xmc', 'evaluate', f'--workdir={run}', *flags]) == 2
  shown = capsys.readouterr()
  assert words in shown.err and shown.err.count('\n') == 1, shown.err
  assert 'FID' not in shown.out and results.read(run) == []


def test_data_that_changed_behind_the_run_are_refused(run, capsys, monkeypatch):
  monkeypatch.setattr(module.sources, 'fingerprint', lambda source: 'other')
  assert main(['xmc', 'evaluate', f'--workdir={run}', '--protocol=toy']) == 2
  assert 'heldout differ' in capsys.readouterr().err and results.read(run) == []


def test_a_killed_evaluation_is_not_taken_for_a_whole_one(run, monkeypatch):
  facts = results.environment() | {'commit': 'abc'}
  monkeypatch.setattr(results, 'environment', lambda: facts)
  lines = evaluate(run)
  path = run / results.FILE
  path.write_text(''.join(path.read_text().splitlines(keepends=True)[:-1]) + '{"metric": "al')
  again = evaluate(run)
  assert by_metric(again[len(lines) - 1:]) == by_metric(lines)
  assert evaluate(run) == again


@pytest.mark.parametrize('fakes, reals, words', [
    (16, 2, 'add real images'), (2, 16, 'with --fakes'), (2, None, 'with --fakes')])
def test_the_side_with_too_few_images_is_named(fakes, reals, words):
  with pytest.raises(UserError, match=f'too few images.*{words}'):
    scores.refuse_few(fakes, reals, 'generate more with --fakes')


def test_captions_are_random_and_no_image_comes_again_before_all_have_come():
  heldout = module.sources.load('emoji', 'heldout', 16)
  rows, which = module.choose_captions(heldout, 500, seed=3)
  for part in (rows[:198], rows[198:396]):
    assert sorted(part) == list(range(198))
  assert len(set(rows[396:])) == 104 and set(which) == set(range(5))
  again = module.choose_captions(heldout, 500, seed=3)
  np.testing.assert_array_equal(again, (rows, which))
  other, _ = module.choose_captions(heldout, 500, seed=4)
  assert rows.tolist() != other.tolist()


def test_too_few_captions_are_refused_before_the_reference_is_read(run, monkeypatch, capsys):
  monkeypatch.setattr(feature_cache, 'features', None)
  assert main(['xmc', 'evaluate', f'--workdir={run}', '--protocol=toy', '--fakes=8']) == 2
  assert 'needs 15 captions' in (told := capsys.readouterr().err) and '--fakes' in told
  with pytest.raises(UserError, match='too few images'):
    module.evaluate(run, protocol='toy', fakes=0)


def known_to(monkeypatch, lines, manifest, metrics=()):
  """An evaluator without networks, and the lines that a run has."""
  monkeypatch.setattr(results, 'read', lambda workdir: lines)
  found = module.Evaluator.__new__(module.Evaluator)
  found._manifest, found._network, found._extra = manifest, {'weights_sha256'}, metrics
  return found


def test_scores_by_random_weights_choose_no_checkpoint(monkeypatch):
  line = {'weights': 'averaged', 'step': 1, 'protocol': 'p', 'weights_sha256': 'a'}
  lines = [line, line | {'step': 2, 'weights_sha256': 'random'}]
  assert known_to(monkeypatch, lines, {'protocol': 'p'}).of_run('run') == lines[:1]


@pytest.mark.parametrize('change, known', [({}, True), ({'weights_sha256': 'new'}, False)])
def test_scores_by_other_weights_of_a_metric_are_measured_again(monkeypatch, change, known):
  model = types.SimpleNamespace(step=1, weights='averaged', fingerprint=lambda: 'g')
  manifest = {'commit': 'c', 'weights_sha256': 'a', 'protocol': 'p'}
  line = {'step': 1, 'weights': 'averaged', 'generator_sha256': 'g', 'time': 1, 'scores': 2,
          **manifest}
  lines = [line, line | {'weights_sha256': 'clip'}]
  metric = types.SimpleNamespace(facts={'weights_sha256': 'clip'} | change)
  found = known_to(monkeypatch, lines, manifest, [metric])
  assert found.known('run', model) == (lines if known else [])
  random = known_to(monkeypatch, [x | {'weights_sha256': 'random'} for x in lines],
                    manifest | {'weights_sha256': 'random'}, [metric])
  assert random.known('run', model) == []      # by which seed, nothing says
