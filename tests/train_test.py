"""`xmc train` from the first line to the last, in this process, on a tiny run."""
import contextlib
import itertools
import json
import re
import shlex
import shutil
import types

import jax
import numpy as np
import pytest
import tiny
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from xmc_jax import trainer
from xmc_jax.cli.main import main
from xmc_jax.sampling import TextToImage
from xmc_jax.training import same_run
from xmc_jax.training.checkpoint import Checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('compiled_once')]

TERMS = {'discriminator/d/hinge', 'discriminator/d/sentence', 'discriminator/d/word',
         'joint/d/hinge',
         'joint/d/sentence', 'joint/d/word', 'joint/g/hinge', 'joint/g/sentence', 'joint/g/word',
         'joint/g/image', 'joint/accuracy/real', 'joint/accuracy/fake',
         'joint/accuracy/sentence_real', 'joint/accuracy/sentence_fake'}
TERMS |= {f'{network}_{what}' for network in ('discriminator/d', 'joint/d', 'joint/g')
          for what in ('loss', 'grad_max')}
SPEED = {'images_per_second', 'seconds_per_step', 'waiting_for_data'}


@pytest.fixture(scope='module')
def trained(tmp_path_factory, encoder_folder):
  """A run of XMC-GAN, where other files take one that compiles faster."""
  workdir = tmp_path_factory.mktemp('trained') / 'run'
  assert main(argv(workdir, encoder_folder)) == 0
  return workdir


@pytest.fixture
def workdir(tmp_path, trained):
  """A copy of the run of 4 steps that a test may go on with."""
  return shutil.copytree(trained, tmp_path / 'run')


def argv(workdir, encoder, **settings):
  return tiny.train_argv(workdir, encoder, config=tiny.DEMO, data__loader='arrays', **settings)


def latest(workdir):
  with Checkpoints(workdir / 'checkpoints', every=None) as checkpoints:
    return checkpoints.latest()


def test_signals_are_handled_until_the_last_checkpoint_is_written(
    tmp_path, encoder_folder, monkeypatch):
  """Else a second SIGTERM, which schedulers send, would end the process in the middle of it."""
  seen = []

  def told(owner, method):
    call = getattr(owner, method)
    monkeypatch.setattr(owner, method,
                        lambda self, *args, **options: (seen.append(method), call(
                            self, *args, **options))[1])
  told(Checkpoints, 'wait')
  told(Checkpoints, 'save')
  told(trainer.StopSignal, '__exit__')
  assert main(argv(tmp_path / 'run', encoder_folder, steps=2)) == 0
  before = seen[:seen.index('__exit__')]
  assert before[-1] == 'wait' and 'save' in before


def test_run_leaves_checkpoints_images_config_and_board(trained):
  assert sorted(p.name for p in trained.iterdir()) == [
      '.lock', 'checkpoints', 'config.json', 'images', 'metrics.jsonl', 'tensorboard']
  assert sorted(p.name for p in (trained / 'checkpoints').iterdir()) == ['2', '4']
  assert sorted(p.name for p in (trained / 'images').iterdir()) == [
      'heldout_00000004.png', 'train_00000004.png']
  config = json.loads((trained / 'config.json').read_text())
  assert config['model']['width'] == 4 and config['data']['loader'] == 'arrays'
  board = EventAccumulator(str(trained / 'tensorboard')).Reload()
  assert set(board.Tags()['tensors']) >= TERMS | {'train', 'heldout'}
  assert [event.step for event in board.Tensors('joint/g_loss')] == [1, 2, 3, 4]


def test_images_have_their_captions_underneath(trained):
  for name in ('train', 'heldout'):
    grid = np.asarray(Image.open(trained / 'images' / f'{name}_00000004.png').convert('L'))
    assert grid.shape[1] == 6 + 3 * 102            # three images of 96 px, margins of 6
    for left in (6, 108, 210):
      assert grid[6 + 96:, left:left + 96].min() < 128, f'{name}: nothing written at {left}'


def test_metrics_have_every_term_of_every_step_and_the_speed(trained):
  lines = [json.loads(line) for line in (trained / 'metrics.jsonl').open()]
  assert [line['step'] for line in lines] == [1, 2, 3, 4]
  assert lines[0].keys() == {'step', 'time'} | TERMS     # the first step's time is compilation's
  for line in lines[1:]:
    assert line.keys() == {'step', 'time'} | TERMS | SPEED
    assert np.isfinite(list(line.values())).all()
    assert line['images_per_second'] * line['seconds_per_step'] == pytest.approx(2 * 8)
    total = line['joint/g/hinge'] + line['joint/g/sentence'] + line['joint/g/word']
    assert line['joint/g_loss'] == pytest.approx(total + line['joint/g/image'], rel=1e-4)


def test_longer_run_resumes_and_prints_size_cost_progress_and_changes(
    workdir, encoder_folder, capsys):
  assert main(argv(workdir, encoder_folder, steps=6, every__images=3)) == 0
  told = capsys.readouterr().out
  for line in (
      r'xmc_gan on emoji: 1,\d{3} images, 32 px, batch size 8 per round, steps 5 to 6',
      rf'{jax.device_count()} devices? \(cpu\)',
      r'discriminator: [\d,]+ parameters', r'generator: [\d,]+ parameters',
      r'memory: [\d,]+ MB of state, weights and batch, [\d,]+ MB of temporaries, on each device',
      r'compiled in \d+ s',
      r'config\.every\.images changed from 4 to 3',
      r'config\.steps changed from 4 to 6',
      r'step 5/6  discriminator/d [\d.]+  joint/d [\d.]+  g -?[\d.]+  first step after \d+ s',
      r'step 6/6  discriminator/d [\d.]+  .*  [\d.,]+ images/s  data \d+ %  left 0 s',
      r'Done: 6 steps\. Sample grids are in .*images\.'):
    assert re.search(f'^{line}$', told, re.MULTILINE), f'{line} is not in:\n{told}'
  assert 'config.data' not in told                  # only what has changed
  assert latest(workdir) == 6
  steps = [json.loads(line)['step'] for line in (workdir / 'metrics.jsonl').open()]
  assert steps == [1, 2, 3, 4, 5, 6]
  assert json.loads((workdir / 'config.json').read_text())['steps'] == 6


def test_changed_frozen_networks_are_reported(capsys):
  meta = lambda text: {'config': {'steps': 1}, 'frozen': {'text': text, 'image': 'c'}}
  same_run.report(meta('a'), meta('b'))
  assert capsys.readouterr().out == 'frozen.text changed from a to b\n'
  same_run.report(meta('a'), meta('a'))
  assert capsys.readouterr().out == ''
  eps = lambda value: meta('a') | {'frozen_settings': {'text': {'eps': value}}}
  same_run.report(eps(0.1), eps(0.2))
  assert capsys.readouterr().out == 'frozen_settings.text.eps changed from 0.1 to 0.2\n'
  same_run.report(meta('a'), eps(0.2))
  assert capsys.readouterr().out == ''


def test_the_next_command_can_be_pasted(tmp_path):
  told = trainer._next_steps(types.SimpleNamespace(sample=True), tmp_path / "it's päth ☃ $HOME")
  command = told.rpartition('image:')[2]
  assert shlex.split(command) == [
      'xmc', 'sample', '--workdir', str(tmp_path / "it's päth ☃ $HOME"), 'a red apple']


def test_finished_run_says_so_and_changes_nothing(trained, encoder_folder, capsys):
  files = lambda: {p: p.stat().st_mtime_ns for p in trained.rglob('*')
                   if p.is_file() and p.name != '.lock'}
  before = files()
  assert main(argv(trained, encoder_folder)) == 0
  told = capsys.readouterr().out
  assert f'{trained} is finished: 4 of 4 steps.' in told
  assert f'xmc sample --workdir {trained} "' in told
  assert files() == before


def test_fewer_steps_than_a_run_has_are_written_for_schedulers(trained, encoder_folder, tmp_path):
  run = shutil.copytree(trained, tmp_path / 'run')
  assert main(argv(run, encoder_folder, steps=3)) == 0
  assert json.loads((run / 'config.json').read_text())['steps'] == 3


def test_nan_stops_the_run_and_the_last_checkpoint_stays_good(
    workdir, encoder_folder, capsys, monkeypatch):
  batches = trainer.pipeline.batches

  def poisoned(*args, **options):
    with contextlib.closing(batches(*args, **options)) as good:
      for i, batch in enumerate(good):
        yield {**batch, 'image': batch['image'] * (np.nan if i == 1 else 1)}

  with monkeypatch.context() as patch:               # the images of step 6 are not numbers
    patch.setattr(trainer.pipeline, 'batches', poisoned)
    assert main(argv(workdir, encoder_folder, steps=8)) == 2
  error = capsys.readouterr().err
  assert re.fullmatch(
      r'xmc: discriminator/d/\w+ is nan at step 6, so training stopped; .*\n', error)
  assert sorted(p.name for p in (workdir / 'checkpoints').iterdir()) == ['2', '4']
  steps = [json.loads(line)['step'] for line in (workdir / 'metrics.jsonl').open()]
  assert steps == [1, 2, 3, 4, 5]

  assert np.isfinite(TextToImage.load(workdir).generate(['a red apple'])).all()
  assert main(argv(workdir, encoder_folder, steps=8)) == 0
  assert latest(workdir) == 8


def test_step_that_is_reported_as_saved_is_saved(tmp_path, encoder_folder, capsys, monkeypatch):
  class Stop(contextlib.ExitStack):
    """A signal that arrives between two reads of the flag."""
    looks = itertools.count()
    requested = property(lambda self: next(self.looks) > 0)

  monkeypatch.setattr(trainer, 'StopSignal', Stop)
  assert main(argv(tmp_path, encoder_folder, every__save=100)) == 0
  told = int(re.search(r'Stopped and saved at step (\d+)', capsys.readouterr().out)[1])
  assert latest(tmp_path) == told
