"""Traces of training steps, and the search for NaNs."""
import jax
import jax.numpy as jnp
import pytest
import tiny

from xmc_jax.cli.main import main
from xmc_jax.training import profile

pytestmark = pytest.mark.slow


def annotated(folder):
  """The numbers of the steps in the trace of `folder`."""
  (file,) = folder.rglob('*.xplane.pb')
  data = jax.profiler.ProfileData.from_file(str(file))
  return {dict(event.stats)['step_num'] for plane in data.planes for line in plane.lines
          for event in line.events if event.name == 'train'}


@pytest.mark.parametrize('chosen, recorded', [
    ((4, 5), {4, 5}), ((1, 3), {3}), ((6, 99), {6, 7}), ((1, 2), None), (None, None)])
def test_the_chosen_steps_are_recorded(tmp_path, chosen, recorded, capsys):
  for _ in profile.steps(range(3, 8), chosen, tmp_path / 'profile'):
    jnp.ones(8).sum().block_until_ready()
  assert (annotated(tmp_path) if recorded else not list(tmp_path.iterdir())) == (recorded or True)
  told = capsys.readouterr().out
  assert ('tensorboard' in told, 'nothing' in told) == (bool(recorded), chosen == (1, 2))


def test_a_run_that_ends_early_leaves_its_trace(tmp_path):
  steps = profile.steps(range(1, 9), (2, 8), tmp_path / 'profile')
  for step in steps:
    if step == 3:
      break
  steps.close()
  assert annotated(tmp_path) == {2, 3}


def test_train_leaves_a_trace_where_tensorboard_finds_it(tmp_path, encoder_folder, capsys):
  argv = tiny.train_argv(tmp_path, encoder_folder, data__loader='arrays')
  assert main([*argv, '--profile=2:3']) == 0
  assert annotated(tmp_path / 'profile' / 'plugins' / 'profile') == {2, 3}
  assert f'tensorboard --logdir {tmp_path / "profile"}' in capsys.readouterr().out


@pytest.mark.parametrize('text', ['100', '5:3', '0:3', 'a:b', ':', '1:2:3'])
def test_steps_that_are_none_are_told_in_one_sentence(text, tmp_path, capsys):
  assert main(['xmc', 'train', f'--workdir={tmp_path}', f'--profile={text}']) == 2
  error = capsys.readouterr().err
  assert f'--profile={text}' in error and 'FIRST:LAST' in error and error.count('\n') == 1


def test_the_first_nan_is_found_where_it_is_made(tmp_path, encoder_folder):
  """In a process of its own, since the flag concerns all of JAX."""
  settings = {'data__loader': 'arrays', 'optim__g__lr': 1e30, 'optim__d__lr': 1e30, 'steps': 9}
  argv = tiny.train_argv(tmp_path, encoder_folder, **settings)
  output, _ = (process := tiny.start([*argv, '--debug_nans'])).communicate(timeout=300)
  assert process.returncode == 1 and 'FloatingPointError' in output, output
  assert 'xmc_jax/' in output and 'xmc: ' not in output, output
