"""A new run that begins with the weights of a trained model."""
import jax
import numpy as np
import pytest
import tiny
from flax import traverse_util
from safetensors import numpy as safetensors_numpy

from xmc_jax import methods
from xmc_jax.cli.main import main
from xmc_jax.distributed import processes
from xmc_jax.pretrained import start
from xmc_jax.pretrained.export import export
from xmc_jax.sampling import TextToImage
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.training.mesh import make_mesh
from xmc_jax.types import UserError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('compiled_once')]


def equal(a, b):
  return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


@pytest.fixture(scope='module')
def program(trained):
  config = TextToImage.load(trained).config
  return methods.program(methods.build(config), config, make_mesh())


def test_the_text_encoder_of_the_run_may_have_moved(trained, program, tmp_path, monkeypatch):
  found = tmp_path / 'weights' / 'bert'
  monkeypatch.setattr(start, 'find_text_encoder', lambda name, given: found)
  asked = []
  monkeypatch.setattr(start.export, 'networks',
                      lambda path, run, encoder: asked.append(encoder) or {})
  start.begin_with(str(trained), program.init(7))
  assert asked == [found]


@pytest.mark.parametrize('shard', ['optimizer', 'parameters'])
def test_every_array_lies_where_the_step_expects_it(shard, trained, tmp_path):
  config = TextToImage.load(trained).config.copy_and_resolve_references()
  with config.unlocked():
    config.shard, config.model.width = shard, 8
  program = methods.program(methods.build(config), config, make_mesh())
  state = program.init(0)
  params = traverse_util.flatten_dict(state.networks['g'].params, sep='/')
  safetensors_numpy.save_file({f'params/{k}': np.asarray(x) for k, x in params.items()},
                              tmp_path / 'g.safetensors')
  found = start.begin_with(str(tmp_path / 'g.safetensors'), state)
  spec = jax.tree.leaves(program.state_spec)
  assert any(not x.sharding.is_fully_replicated for x in spec)     # or this shows nothing
  assert [x.sharding for x in jax.tree.leaves(found)] == [x.sharding for x in spec]
  pairs = list(zip(jax.tree.leaves(found.ema['g']), jax.tree.leaves(found.networks['g'].params)))
  assert all(np.array_equal(a, b) and a is not b for a, b in pairs)


@pytest.fixture(scope='module')
def saved(trained, program):
  """The state that the trained run ended with."""
  with Checkpoints(trained / 'checkpoints', every=None) as checkpoints:
    return checkpoints.restore(program.state_spec)


@pytest.mark.parametrize('kind', ['run', 'model', 'full model', 'file'])
def test_the_weights_are_those_of_the_model(kind, trained, program, saved, tmp_path, capsys):
  name, has_discriminator = trained, kind not in ('model',)
  if kind != 'run':
    name = tmp_path / 'model'
    export(trained, name, full=has_discriminator)
  if kind == 'file':
    name /= 'model.safetensors'
  new = program.init(7)
  state = start.begin_with(str(name), new)
  assert not equal(saved.ema['g'], saved.networks['g'].params)     # or this shows nothing
  assert equal(state.networks['g'].params, saved.ema['g'])
  assert equal(state.ema['g'], saved.ema['g'])
  assert equal(state.networks['g'].stats, saved.networks['g'].stats)
  first, other = (saved, new) if has_discriminator else (new, saved)
  for part in ('params', 'stats'):
    got, wanted, unwanted = (getattr(x.networks['d'], part) for x in (state, first, other))
    assert equal(got, wanted) and not equal(got, unwanted)
  assert equal(state.networks['d'].opt_state, new.networks['d'].opt_state)
  assert int(state.step) == 0
  printed = capsys.readouterr().out
  assert str(name) in printed and ('discriminator' in printed) == has_discriminator


@pytest.mark.parametrize('change, words', [
  (lambda x: x | {'embedding': x['params/a']}, 'embedding'),
  (lambda x: {'stats/a': x['params/a']}, 'no params'),
  (lambda x: x | {'networks/x/params/a': x['params/a']}, 'networks/x'),
  (lambda x: x, 'params/a'),
])
def test_a_file_of_other_networks_is_refused(program, tmp_path, change, words):
  path = tmp_path / 'other.safetensors'
  safetensors_numpy.save_file(change({'params/a': np.zeros((2, 3), np.float32)}), path)
  with pytest.raises(UserError, match=words):
    start.begin_with(str(path), program.init(7))


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


def test_processes_that_read_other_weights_are_refused(trained, program, monkeypatch):
  monkeypatch.setattr(processes, 'gather', lambda own: [own, dict.fromkeys(own, 'others')])
  with pytest.raises(UserError, match='the weights of --config.init=.* is others on process 1'):
    start.begin_with(str(trained), program.state_spec)
