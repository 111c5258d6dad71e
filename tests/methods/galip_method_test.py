"""GALIP's method, alone and below the framework of two branches: order, losses, devices."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import toys

from xmc_jax import methods
from xmc_jax.config import check
from xmc_jax.encoders import clip
from xmc_jax.methods import galip, scl
from xmc_jax.networks import galip as networks
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs, Text
from xmc_jax.training.mesh import make_mesh
from xmc_jax.training.program import Program
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow

SETTINGS = {'batch_size': 8, 'model.size': 8, 'model.width': 4, 'model.z_features': 5,
            'model.dtype': 'float32', 'text.encoder': '/nowhere', 'text.length': toys.LENGTH,
            'clip.side': 16, 'clip.patch': 4, 'clip.width': 64, 'clip.layers': 1,
            'clip.text_width': 64, 'clip.text_layers': 1, 'clip.pieces': 13, 'clip.features': 6}


@pytest.fixture(autouse=True, scope='module')
def _few_blocks():
  with pytest.MonkeyPatch.context() as patch:      # most of the time is the compiler's
    patch.setattr(networks, 'BRIDGES', 1)
    patch.setattr(networks, 'SIZES', (8, *networks.SIZES))
    patch.setattr(networks, 'LEAST_LAYERS', 1)
    yield


def small(**settings):
  config = galip.config()
  config.update_from_flattened_dict(SETTINGS | settings)
  return config


def framework(**settings):
  config = scl.config(small())
  config.update_from_flattened_dict({'scl.unicl': 0.1, **settings})
  check(config)
  return config


def program_of(method, optimizer, devices=1):
  return Program(method.objective, {name: optimizer for name in 'gd'}, 0.0, method.frozen_spec,
                 method.batch_spec, make_mesh(jax.devices()[:devices]))


def batch(method, seed):
  """As a loader gives it: with labels and partners if the method asks for them."""
  found = {}
  for i, prefix in enumerate(('', 'partner_')):
    if f'{prefix}image' in method.batch_spec:
      found |= {f'{prefix}{k}': v for k, v in toys.batch(method.batch_spec, 2 * seed + i).items()}
  labels = toys.numbers(seed).integers(0, 3, (1, 8)).astype(np.int32)
  return {k: found.get(k, labels) for k in method.batch_spec}


@functools.cache
def trained(make, devices):
  method = methods.build(make())
  return toys.two_steps(method, devices, functools.partial(batch, method))


@pytest.mark.thorough
def test_eight_devices_are_one():
  # With the framework all runs that runs without it.
  toys.same_on_all_devices(trained(framework, 1), trained(framework, 8))


def test_a_step_is_one_round_of_discriminator_then_generator():
  of = lambda config: [[(p.name, p.updates) for p in phases]
                       for phases in methods.build(config).objective.rounds]
  assert of(small()) == of(framework()) == [[('discriminator', ('d',)), ('generator', ('g',))]]
  accuracies = {f'discriminator/accuracy/{k}' for k in ('real', 'fake', 'wrong')}
  losses = {'discriminator/d/hinge', 'discriminator/d/ma_gp', 'generator/g/hinge',
            'generator/g/similarity'}
  totals = {
    f'{phase}_{k}' for phase in ('discriminator/d', 'generator/g') for k in ('loss', 'grad_max')
  }
  assert trained(small, 1)[2].keys() == accuracies | losses | totals
  names = toys.metric_names(program_of(methods.build(framework()), optax.sgd(1.0)))
  assert names == accuracies | losses | totals | {'generator/g/supcon_fake', 'generator/g/unicl'}


def test_clip_is_never_trained_and_no_average_is_kept():
  _, (networks, ema), _, frozen = trained(small, 1)
  method = methods.build(small())
  jax.tree.map(np.testing.assert_array_equal, frozen, toys.fill(method.frozen_spec))
  jax.tree.map(np.testing.assert_array_equal, ema['g'], networks['g'].params)
  encoder = {'image_transformer', 'text_transformer'}
  assert method.frozen_spec['clip']['params'].keys() == encoder and networks.keys() == set('gd')
  assert not encoder & {str(key) for p in networks.values() for key in p.params}


def test_two_branches_share_weights_and_get_labels_and_partners():
  alone, both = methods.build(small()), methods.build(framework())
  shapes = lambda method: program_of(method, optax.sgd(1.0)).state_spec
  assert shapes(alone) == shapes(both)
  assert set(alone.batch_spec) == {'image', 'tokens', 'mask'}
  names = {*alone.batch_spec, 'label'}
  assert set(both.batch_spec) == names | {f'partner_{name}' for name in names}
  assert both.batch_spec['partner_image'].shape == (1, 8, 8, 8, 3)


class Toy:
  """In place of the networks: images are g, a discriminator's logit of x is d x, and real ones are
  1.

  Wrong pairs have the logit d / 4. CLIP's code of a fake is (g, 1), and of a caption (1, 0).
  """
  z_features, sample = 1, None

  def __init__(self, *networks):
    del networks

  def init(self, rng, batch):
    return {'g': {'params': {'x': jnp.float32(0.5)}}, 'd': {'params': {'x': jnp.float32(0.25)}}}

  def generate(self, params, stats, frozen, batch, rngs):
    g = params['g']['x']
    rows = lambda *x: jnp.tile(jnp.stack([jnp.float32(y) for y in x]), (8, 1))
    return ForwardOutputs(
      batch, Text(None, None, rows(1, 0)), (g,), fake_embedding=rows(g, 1)
    ), stats

  def discriminate(self, params, stats, frozen, generated):
    view = lambda x: DiscriminatorOutput((x * jnp.ones(8),))
    d, (g,) = params['d']['x'], generated.fake
    return dataclasses.replace(generated, d_real=view(d), d_fake=view(d * g),
                               d_wrong=view(d / 4), grad_norm_sq=d ** 2 * jnp.ones(8)), stats


def test_losses_and_their_order_are_the_papers(monkeypatch):
  # Discriminator, once: 1 - d + (1 + d g + 1 + d / 4) / 2 + 2 d^6,
  #   derivative -1 + g / 2 + 1 / 8 + 12 d^5.
  # Generator: -d g - 4 g / sqrt(g^2 + 1), derivative -d - 4 / (g^2 + 1)^1.5.
  monkeypatch.setattr(networks, 'GalipNetworks', Toy)
  method = methods.build(small())
  program = program_of(method, optax.sgd(1.0))
  state, metrics = program.compile()(program.init(0), toys.fill(method.frozen_spec),
                                     toys.batch(method.batch_spec))
  g, d = 0.5, 0.25
  loss = 1 - d + (1 + d * g + 1 + d / 4) / 2 + 2 * d ** 6
  np.testing.assert_allclose(metrics['discriminator/d_loss'], loss, rtol=1e-6)
  d -= -1 + g / 2 + 1 / 8 + 12 * d ** 5
  np.testing.assert_allclose(metrics['generator/g_loss'], -d * g - 4 * g / np.sqrt(g ** 2 + 1),
                             rtol=1e-6)
  g -= -d - 4 / (g ** 2 + 1) ** 1.5
  np.testing.assert_allclose(state.networks['d'].params['x'], d, rtol=1e-6)
  np.testing.assert_allclose(state.networks['g'].params['x'], g, rtol=1e-6)


def test_a_folder_tells_the_sizes_and_has_weights_and_words(tmp_path):
  tool = tiny.script('tools/clip_goldens.py')
  sides = tool.QUICK['vision_config'] | {'image_size': 16}
  words = tool.QUICK['text_config'] | {'vocab_size': 534}      # as many as the tokenizer has
  tool.write(tmp_path / 'encoder', tool.QUICK | {'vision_config': sides, 'text_config': words})
  method = methods.build(small(**{'text.encoder': str(tmp_path), 'model.size': 32}))
  frozen = method.load_frozen(method.sample_needs)
  jax.tree.map(np.testing.assert_array_equal, frozen['clip'], clip.load(tmp_path / 'encoder')[1])
  assert jax.tree.map(jnp.shape, frozen) == jax.tree.map(lambda x: x.shape, method.frozen_spec)
  assert method.tokenizer().length == toys.LENGTH
  rows = {k: jax.ShapeDtypeStruct((3, toys.LENGTH), method.batch_spec[k].dtype)
          for k in ('tokens', 'mask')}
  g = program_of(method, optax.sgd(1.0)).state_spec.networks['g'].params
  out = jax.eval_shape(method.sample, g, {}, method.frozen_spec, rows, jnp.zeros((3, 5)))
  assert (out.shape, out.dtype) == ((3, 32, 32, 3), jnp.float32)


@pytest.mark.parametrize('encoder, words', [
    ('/nowhere/encoder', 'cannot be found in /nowhere/encoder; .*configs/clip_emoji.py'),
    ('', 'no CLIP is given')])
def test_a_clip_that_is_not_there_is_the_users_mistake(encoder, words):
  method = methods.build(small(**{'text.encoder': encoder}))
  for ask in (method.load_frozen, method.tokenizer):
    with pytest.raises(UserError, match=words):
      ask()


@pytest.mark.parametrize('settings, message', [
    ({'model.size': 48}, '--config.model.size=48: .* 64, 128, 224, 256 px'),
    ({'microbatches': 2}, '--config.microbatches=2: .* whole batch'),
    ({'batch_size': 1}, '--config.batch_size=1: .* 2 or more'),
    ({'model.clip_input': 'twice'}, '--config.model.clip_input=twice: choose one of single, rel'),
    ({'text.length': 78}, '--config.text.length=78: this CLIP has positions for 77 word pieces'),
    ({'clip.width': 100}, '--config.clip.width=100: must be a multiple of 64'),
    ({'clip.text_width': 32}, '--config.clip.text_width=32'),
    ({'clip.patch': 5}, '--config.clip.patch=5: must divide the side, 16 px'),
    ({'clip.layers': 0}, 'a CLIP of at least 1 layers'),
    ({'clip.patch': 8}, '2 patches a side: choose another with --config.text.encoder'),
    ({'clip.patch': 2}, '8 patches a side')])
def test_mistakes_in_the_config_are_named(settings, message):
  with pytest.raises(UserError, match=message):
    methods.build(small(**settings))


def test_a_network_without_any_loss_is_refused_when_its_phase_is_traced():
  method = methods.build(small(**{'terms.hinge': 0.0, 'terms.ma_gp': 0.0}))
  with pytest.raises(UserError, match="'d' in the phase '.*' has weight 0"):
    program_of(method, optax.sgd(1.0)).trace()


def test_settings_are_known_and_locked():
  config = galip.config()
  check(config)
  assert config.is_locked and config.method == 'galip'
