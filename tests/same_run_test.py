"""A run is resumed as the run that it was: its config, its data and its tokenizer."""
import json
import shutil

import pytest
import tiny

from xmc_jax.cli.main import main
from xmc_jax.data import source
from xmc_jax.training import durable

pytestmark = pytest.mark.slow


@pytest.fixture
def run(trained, tmp_path):
  """A copy of the tiny run of 4 steps."""
  shutil.copytree(trained, tmp_path / 'run')
  return tmp_path / 'run'


def steps(run):
  return [json.loads(line)['step'] for line in (run / 'metrics.jsonl').read_text().splitlines()]


def test_the_workdir_alone_resumes_with_the_saved_config(run, capsys):
  assert main(['xmc', 'train', f'--workdir={run}', '--config.steps=5',
               '--config.evals.fakes=12']) == 0
  assert steps(run) == [1, 2, 3, 4, 5]
  saved = json.loads((run / 'config.json').read_text())
  assert (saved['steps'], saved['evals']['fakes'], saved['model']['width']) == (5, 12, 4)
  assert 'config.model' not in capsys.readouterr().out


def test_a_learning_rate_that_is_changed_is_obeyed(run, capsys):
  assert main(['xmc', 'train', f'--workdir={run}', '--config.steps=6', '--config.optim.g.lr=0.0',
               '--config.optim.d.lr=0.0']) == 0
  assert 'config.optim.g.lr' in capsys.readouterr().out
  before, after = (tiny.saved_state(run, step) for step in (4, 6))
  moved = {name for name in before if before[name] != after[name]}
  params = {name for name in before if '.params' in name}
  assert params and moved and not moved & params      # the optimizers' moments go on


def test_a_workdir_without_a_run_needs_a_config(tmp_path, capsys):
  assert main(['xmc', 'train', f'--workdir={tmp_path / "none"}']) == 2
  assert '--config' in capsys.readouterr().err and not (tmp_path / 'none').exists()


def test_a_run_without_its_config_file_is_told_apart_from_no_run(run, capsys):
  (run / 'config.json').unlink()
  assert main(['xmc', 'train', f'--workdir={run}']) == 2
  told = capsys.readouterr().err
  assert 'config.json is missing' in told and 'no run' not in told


def test_other_data_is_refused_after_the_last_step_and_by_a_check(run, encoder_folder, capsys):
  argv = tiny.train_argv(run, encoder_folder, data__loader='arrays', data__name='emoji_scenes')
  for flags in ([], ['--check']):
    assert main([*argv, *flags]) == 2
    assert 'the data changed since this run began' in capsys.readouterr().err


def test_other_data_is_refused_unless_insisted_on(run, encoder_folder, capsys):
  before = (run / 'config.json').read_text()
  argv = tiny.train_argv(run, encoder_folder, data__loader='arrays', steps=5,
                         data__name='emoji_scenes')
  assert main(argv) == 2
  said = capsys.readouterr().err
  assert 'the data changed' in said and '--allow_changes' in said and 'emoji_scenes' in said
  assert (run / 'config.json').read_text() == before and steps(run) == [1, 2, 3, 4]
  assert main([*argv, '--allow_changes']) == 0
  assert steps(run) == [1, 2, 3, 4, 5]


def test_other_held_out_images_are_refused_too(run, monkeypatch, capsys):
  original = source.fingerprint
  monkeypatch.setattr(source, 'fingerprint',
                      lambda split: original(split) if len(split) > 1000 else 'others')
  assert main(['xmc', 'train', f'--workdir={run}', '--config.steps=5']) == 2
  assert f'--workdir={run}: the held-out data changed since' in capsys.readouterr().err


def test_another_tokenizer_is_refused(run, encoder_folder, tmp_path, capsys):
  other = tmp_path / 'encoder'
  shutil.copytree(encoder_folder, other)
  for path in other.glob('*.json'):      # two words change places
    text = path.read_text()
    if '"red"' in text and '"blue"' in text:
      path.write_text(text.replace('"red"', '"_"').replace('"blue"', '"red"')
                      .replace('"_"', '"blue"'))
  assert main(tiny.train_argv(run, other, data__loader='arrays', steps=5)) == 2
  assert 'the tokenizer changed' in capsys.readouterr().err


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_resumed(run, capsys):
  path = max((run / 'checkpoints/4').rglob('*'), key=lambda path: path.stat().st_size)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  assert durable.damage(run / 'checkpoints/4')
  assert main(['xmc', 'train', f'--workdir={run}']) == 0
  out = capsys.readouterr().out
  assert 'step 4 is damaged' in out and 'steps 3 to 4' in out
  assert durable.damage(run / 'checkpoints/4') is None
  assert (run / 'checkpoints/4.damaged.1').is_dir()


def test_fingerprints_differ_where_data_does():
  found = {source.fingerprint(source.load(name, split, size)) for name in ('emoji', 'emoji_scenes')
           for split in source.SPLITS for size in (16, 32)}
  assert len(found) == 8
  same = [source.fingerprint(source.load('emoji', 'train', 16)) for _ in range(2)]
  assert same[0] == same[1]
