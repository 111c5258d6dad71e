"""Checkpoints and weights that were cut short, and what goes on from the one before."""
import shutil

import pytest
import tiny

from xmc_jax.cli.main import main

pytestmark = pytest.mark.slow


def cut(path, kept=0.5):
  path.write_bytes(path.read_bytes()[:int(path.stat().st_size * kept)])


def test_newest_checkpoint_has_arrays_cut_short(argv, workdir):
  for path in (workdir / 'checkpoints' / '4' / 'state').glob('ocdbt.process_0/d/*'):
    cut(path, 0.01)
  sample = ['xmc', 'sample', f'--workdir={workdir}', '--caption=a red apple']
  # In processes of their own: orbax leaves reads behind, which would complain in this one.
  process = tiny.start(sample)
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 2
  assert output.startswith('xmc: the checkpoint of step 4 is damaged')
  assert 'delete that folder to resume from' in output and 'step 2' in output
  assert output.count('\n') == 1, output
  process = tiny.start(argv)                           # training goes on from the one before
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  assert output.startswith('the checkpoint of step 4 is damaged') and '4.damaged' in output
  assert 'steps 3 to 4' in output


@pytest.mark.parametrize('damage', [
    lambda step: cut(step / 'state' / '_METADATA'),
    lambda step: cut(step / 'meta' / 'metadata'),
    lambda step: [shutil.rmtree(p) if p.is_dir() else p.unlink() for p in step.iterdir()],
], ids=['tree', 'meta', 'everything'])
def test_newest_checkpoint_is_damaged(refused, argv, workdir, damage, capsys):
  damage(workdir / 'checkpoints' / '4')
  words = ['step 4 is damaged', str(workdir / 'checkpoints' / '4'), 'delete that folder', 'step 2']
  refused(['xmc', 'sample', f'--workdir={workdir}', '--caption=a red apple'], *words)
  assert sorted(p.name for p in (workdir / 'checkpoints').iterdir()) == ['2', '4']
  assert main(argv) == 0                               # training goes on from the one before
  output = capsys.readouterr().out
  assert output.startswith('the checkpoint of step 4 is damaged') and 'steps 3 to 4' in output
  assert sorted(p.name for p in (workdir / 'checkpoints').iterdir()) == ['2', '4', '4.damaged.1']


def test_checkpoint_of_another_model(refused, argv, workdir):
  refused([*argv, '--config.steps=6', '--config.model.width=8'], 'of another model',
          str(workdir / 'checkpoints'), '--workdir', '--config')


def test_half_written_checkpoint_is_not_a_checkpoint(argv, workdir, capsys):
  checkpoints = workdir / 'checkpoints'
  shutil.copytree(checkpoints / '4', checkpoints / '6.orbax-checkpoint-tmp')
  sample = ['xmc', 'sample', f'--workdir={workdir}', '--caption=a red apple', '--each=1']
  assert main(sample) == 0
  assert 'weights of step 4' in capsys.readouterr().out
  assert main(argv) == 0
  assert 'is finished: 4 of 4 steps' in capsys.readouterr().out


def test_encoder_weights_that_are_cut_short(refused, argv, tmp_path, encoder_folder):
  folder = shutil.copytree(encoder_folder, tmp_path / 'cut')
  cut(folder / 'model.safetensors')
  refused([*argv, f'--config.text.encoder={folder}'], str(folder / 'model.safetensors'),
          'cannot be read')
