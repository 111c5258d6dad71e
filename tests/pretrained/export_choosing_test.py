"""Models of Swift take along what chooses among several images, and nothing that only trains."""
import pathlib

import numpy as np
import pytest
import saved_runs
import tiny
import toys
from flax import traverse_util
from safetensors import numpy as safetensors_numpy

import xmc_jax
from xmc_jax import methods
from xmc_jax.data import source
from xmc_jax.encoders import registry
from xmc_jax.methods import swift
from xmc_jax.networks import matcher
from xmc_jax.pretrained import start
from xmc_jax.pretrained.export import _known_captions, export
from xmc_jax.pretrained.model import from_folder, load
from xmc_jax.sampling import TextToImage
from xmc_jax.training.mesh import make_mesh
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow


@pytest.fixture
def config(encoder_folder):
  config = swift.config()
  config.update_from_flattened_dict({
      'batch_size': 8, 'model.size': 32, 'model.widths': (8, 6, 4), 'model.heads_width': 4,
      'model.z_features': 5, 'text.encoder': str(encoder_folder), 'text.length': 6})
  return config


def test_a_discriminator_that_chooses_goes_along(tmp_path, config, monkeypatch):
  run, caption = saved_runs.save(tmp_path / 'run', config), ['the red apple']
  wanted = TextToImage.load(run).generate(caption, best_of=4)
  export(run, tmp_path / 'model')
  assert 'chooses among several images' in (tmp_path / 'model/README.md').read_text()
  monkeypatch.setattr(registry, 'load', lambda name: pytest.fail('the model has all it needs'))
  model = from_folder(tmp_path / 'model')
  np.testing.assert_array_equal(model.generate(caption, best_of=4), wanted)
  four = model.generate(caption * 4)
  assert [x.tobytes() for x in four].count(wanted[0].tobytes()) == 1
  assert start.read(str(tmp_path / 'model'), program_state(config)).keys() > {
      'networks/d/params/in_0/kernel'}
  path = tmp_path / 'model/model.safetensors'
  tensors = safetensors_numpy.load_file(path)
  safetensors_numpy.save_file({k: x for k, x in tensors.items()
                               if k.startswith(('params', 'stats'))}, path)
  saved_runs.sign_again(path.parent)
  with pytest.raises(UserError, match='exported without its discriminator'):
    from_folder(tmp_path / 'model').generate(caption, best_of=4)


def test_known_captions_take_the_place_of_others_and_go_along(tmp_path, config, monkeypatch):
  texts, others = ['a cat', 'the red apple', 'the cat'], ['the cat on apple', 'red']
  monkeypatch.setattr(source, 'load', lambda *_, **__: Known(texts[:2]))
  plain = TextToImage.load(saved_runs.save(tmp_path / 'plain', config))
  config.model.nearest = 1.0
  run = saved_runs.save(tmp_path / 'run', config)
  model = TextToImage.load(run)
  drawn_by = lambda model, inputs: np.asarray(model.forward(model.tree, inputs))
  inputs = model.inputs(others)
  expected = [drawn_by(plain, inputs | {key: x[[i, i]] for key, x in plain.inputs(texts).items()
                                     if key != 'z'}) for i in range(3)]
  for row, image in enumerate(drawn_by(model, inputs)):
    assert min(np.abs(image - x[row]).max() for x in expected) < 1e-5
    assert np.abs(image - drawn_by(plain, inputs)[row]).max() > 1e-3
  assert plain.drawn_captions(others) == others
  assert set(model.drawn_captions(others)) <= set(texts)
  assert model.drawn_captions(others * 40) == model.drawn_captions(others) * 40
  assert model.drawn_captions([]) == []
  export(run, tmp_path / 'model', draws_only=True)
  monkeypatch.setattr(source, 'load', lambda *_, **__: pytest.fail('the model has them'))
  exported = from_folder(tmp_path / 'model')
  np.testing.assert_array_equal(exported.generate(others), model.generate(others))
  drawn = load(tmp_path / 'model')(others, num_images=2)
  assert drawn.drawn[::2] == drawn.drawn[1::2] == model.drawn_captions(others)
  assert drawn.captions[::2] == others
  for as_it_is in model.with_nearest(0), exported.with_nearest(0):
    assert as_it_is.drawn_captions(others) == others
    np.testing.assert_allclose(drawn_by(as_it_is, inputs), drawn_by(plain, inputs), atol=1e-5)
  with pytest.raises(UserError, match='nearest=2: must be'):
    model.with_nearest(2)
  with pytest.raises(UserError, match='nearest=0.5: this model'):
    plain.with_nearest(0.5)
  # With the word pieces numbered anew.
  tokens = model.tree['frozen']['known_captions']['tokens']
  pieces = np.unique(tokens)
  packed = _known_captions(model, 'int8', pieces.tolist())['frozen/known_captions/tokens']
  np.testing.assert_array_equal(pieces[packed], tokens)
  path = tmp_path / 'model/model.safetensors'
  tensors = safetensors_numpy.load_file(path)
  safetensors_numpy.save_file({k: x for k, x in tensors.items() if 'known' not in k}, path)
  saved_runs.sign_again(path.parent)
  with pytest.raises(UserError, match='lacks the captions of training'):
    from_folder(tmp_path / 'model')


class Known:
  """A source of captions, two for each image."""

  def __init__(self, captions):
    self._captions = captions

  def __len__(self):
    return len(self._captions)

  def captions(self, index):
    return self._captions[index], 'the cat'


def test_a_matching_network_goes_along_and_chooses(tmp_path, config):
  run, captions = saved_runs.save(tmp_path / 'run', config), ['the red apple', 'a cat', 'the cat']
  params = toys.fill(matcher.spec(tiny.BERT['hidden_size']))['params']
  # So that it decides against whatever the discriminator says.
  params['logit']['kernel'] *= 1e4
  path = tmp_path / 'matcher.safetensors'
  safetensors_numpy.save_file(traverse_util.flatten_dict(params, sep='/'), path)
  chosen = TextToImage.load(run, matcher=path).generate(captions, best_of=6)
  assert (chosen != TextToImage.load(run).generate(captions, best_of=6)).any()
  facts = export(run, tmp_path / 'model', matcher=path)
  assert facts['config']['model']['matcher'] == 'matcher.safetensors'      # no path of this machine
  assert 'matching network' in (tmp_path / 'model/README.md').read_text()
  path.unlink()
  model = from_folder(tmp_path / 'model')
  np.testing.assert_array_equal(model.generate(captions, best_of=6), chosen)
  # A new run can begin with the model, and chooses without the network.
  assert start.read(str(tmp_path / 'model'), program_state(config))
  with pytest.raises(UserError, match=r'matcher\.safetensors'):
    export(run, tmp_path / 'other', matcher=path)
  assert not (tmp_path / 'other').exists()
  config.terms.heads_word = 0.0
  plain = saved_runs.save(tmp_path / 'plain', config)
  with pytest.raises(UserError, match='without the contrasts of words'):
    export(plain, tmp_path / 'other', matcher=path)


def program_state(config):
  method = methods.build(config)
  return methods.program(method, config, make_mesh()).state_spec


@pytest.mark.parametrize('name, draws', [('emoji64', {'generator'}),
                                         ('scenes64', {'generator', 'layout'})])
def test_only_what_draws_is_in_the_file(name, draws):
  """Swift's generator is trained together with an encoder of images, which sampling needs not."""
  path = pathlib.Path(xmc_jax.__file__).with_name('models') / name / 'model.safetensors'
  names = [name.split('/') for name in safetensors_numpy.load_file(path)]
  assert {name[1] for name in names if name[0] == 'params'} == draws
