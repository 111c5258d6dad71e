"""A new run that begins with the generator of a trained model."""
import jax
import numpy as np
import pytest
import tiny

from xmc_jax import methods
from xmc_jax.cli.main import main
from xmc_jax.pretrained import start
from xmc_jax.sampling import TextToImage
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.training.mesh import make_mesh

pytestmark = pytest.mark.slow


def equal(a, b):
  return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


def test_the_generator_is_the_trained_one_and_the_discriminator_is_new(trained, capsys):
  config = TextToImage.load(trained).config
  program = methods.program(methods.build(config), config, make_mesh())
  new = program.init(7)
  state = start.begin_with(str(trained), new)
  with Checkpoints(trained / 'checkpoints', every=None) as checkpoints:
    saved = checkpoints.restore(program.state_spec)
  assert not equal(saved.ema['g'], saved.networks['g'].params)     # or this shows nothing
  assert equal(state.networks['g'].params, saved.ema['g'])
  assert equal(state.ema['g'], saved.ema['g'])
  assert equal(state.networks['g'].stats, saved.networks['g'].stats)
  assert equal(state.networks['d'].params, new.networks['d'].params)
  assert int(state.step) == 0 and str(trained) in capsys.readouterr().out


def test_a_resumed_run_is_not_begun_again(trained, encoder_folder, tmp_path, capsys):
  train = lambda steps: main(tiny.train_argv(
      tmp_path / 'run', encoder_folder, data__loader='arrays', init=trained, steps=steps))
  assert train(1) == 0
  assert 'begun with' in capsys.readouterr().out
  assert train(2) == 0
  assert 'begun with' not in capsys.readouterr().out


def test_another_generator_is_refused_before_compiling(trained, encoder_folder, tmp_path, capsys):
  argv = tiny.train_argv(tmp_path / 'run', encoder_folder, data__loader='arrays', init=trained,
                         model__width=8)
  assert main(argv) == 2
  printed = capsys.readouterr()
  assert '--config.init' in printed.err and 'here' in printed.err
  assert 'compiled' not in printed.out


def test_a_model_that_is_not_there_is_refused(encoder_folder, tmp_path, capsys):
  argv = tiny.train_argv(tmp_path / 'run', encoder_folder, data__loader='arrays', init='emoji46')
  assert main(argv) == 2
  assert 'emoji64' in capsys.readouterr().err
