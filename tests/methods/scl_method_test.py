"""Two branches and their loss on top of other methods; and SSA-GAN's three phases below them."""
import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from xmc_jax import methods
from xmc_jax.config import check
from xmc_jax.data.views import two_views
from xmc_jax.losses import damsm as losses
from xmc_jax.methods import _damsm, attngan, df_gan, dm_gan, scl, ssa_gan
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs, Text
from xmc_jax.training.mesh import make_mesh
from xmc_jax.training.program import Program
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow

SHARED = {'batch_size': 8, 'model.size': 32, 'model.width': 4, 'model.z_features': 5,
          'text.words': 13, 'text.length': toys.LENGTH, 'image.encoder': 'squeezenet'}
NO_DAMSM = {'terms.damsm_words': 0.0, 'terms.damsm_sentence': 0.0}
STACKED = NO_DAMSM | {'model.d_width': 2, 'model.residuals': 1, 'model.condition_features': 3}
FAMILIES = {'attngan': (attngan, STACKED), 'dm_gan': (dm_gan, STACKED), 'df_gan': (df_gan, {}),
            'ssa_gan': (ssa_gan, NO_DAMSM)}


def tiny(family, **settings):
  module, own = FAMILIES[family]
  config = module.config()
  config.update_from_flattened_dict(SHARED | own | settings)
  return config


def framework(family, **settings):
  config = scl.config(tiny(family))
  config.update_from_flattened_dict(settings)
  check(config)
  return config


def spec(method, name):
  return method.batch_spec[name].shape, method.batch_spec[name].dtype


@pytest.mark.parametrize('family', FAMILIES)
def test_every_family_gets_a_second_view_of_the_same_shapes(family):
  alone, both = methods.build(tiny(family)), methods.build(framework(family))
  for key in alone.batch_spec:
    assert spec(both, key) == spec(both, f'partner_{key}') == spec(alone, key)
  assert spec(both, 'label') == spec(both, 'partner_label') == ((1, 8), np.int32)
  state = lambda method: jax.eval_shape(method.objective.init, jax.random.key(0), {
      k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for k, v in method.batch_spec.items()})
  assert state(alone) == state(both)       # branches share all weights


def test_partners_of_the_same_image_need_no_labels():
  for family in FAMILIES:
    method = methods.build(framework(family, **{'data.partners': 'self'}))
    assert 'label' not in method.batch_spec and 'partner_image' in method.batch_spec
  for settings in ({'scl.supcon_fake': 0.0}, {'data.partners': 'self'}):
    config = framework('df_gan', **settings)
    method = methods.build(config)
    assert 'label' not in method.batch_spec
    methods.program(method, config, make_mesh(jax.devices()[:1])).trace()


def test_partners_without_the_framework_are_refused():
  config = tiny('df_gan', **{'data.partners': 'exact'})
  with pytest.raises(UserError, match='--config.data.partners=exact: df_gan alone does not use'):
    methods.check_training(methods.build(config), config)


def test_so_does_xmc_gan_whose_fakes_an_image_network_looks_at(text_folder):
  config = scl.config(toys.tiny_config(text_folder))
  config.model.one_class, config.model.classes = False, 5
  method = methods.build(config)
  assert spec(method, 'partner_label') == ((2, 8, 5), np.float32)
  assert spec(method, 'partner_image') == spec(method, 'image') == ((2, 8, 32, 32, 3), np.float32)
  assert 'image' in method.frozen_spec


@pytest.fixture
def handed(monkeypatch):
  """What a base method is given."""
  found = {}
  base = types.ModuleType('xmc_jax.methods.toy')
  base.build = lambda config, extension: found.update(extension=extension)
  monkeypatch.setattr(methods, 'find', lambda config, key: base)
  return found


def build_on_toy(handed, **settings):
  config = framework('ssa_gan', **settings)
  config.base = 'toy'
  scl.build(config)
  return handed['extension']


def branches(labels):
  """Two branches of four rows, with embeddings of fakes and captions."""
  make = lambda i: ForwardOutputs(
    {'label': np.array(labels[i])},
    Text(None, None, toys.normal(i, 4, 6)),
    fake_embedding=toys.normal(10 + i, 4, 6),
  )
  return make(0), make(1)


def slow_sup_con(embeddings, labels, rows, temperature):
  """Row by row: the mean over positives of -log softmax over all other rows."""
  embeddings = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
  total = 0
  for i in range(len(embeddings)):
    others = [j for j in range(len(embeddings)) if j != i]
    positives = [j for j in others if labels[i] == labels[j] or j % rows == i % rows]
    scores = {j: embeddings[i] @ embeddings[j] / temperature for j in others}
    below = np.log(sum(np.exp(score) for score in scores.values()))
    total += np.mean([below - scores[j] for j in positives])
  return total / len(embeddings)


def test_the_loss_draws_fakes_with_the_same_label_together(handed):
  extension = build_on_toy(handed)
  assert extension.split is two_views and extension.losses.keys() == {'g'}
  assert (extension.weights['supcon_fake'], extension.weights['unicl']) == (0.2, 0.0)
  labels = [[3, 1, 3, 2], [3, 1, 3, 0]]      # the last pair are partners all the same
  pair = branches(labels)
  embeddings = np.concatenate([b.fake_embedding for b in pair])
  found = extension.losses['g'](pair)
  assert found.keys() == {'supcon_fake'}
  np.testing.assert_allclose(found['supcon_fake'],
                             slow_sup_con(embeddings, sum(labels, []), 4, 0.5), rtol=1e-5)


def test_with_partners_of_the_same_image_it_is_nt_xent(handed):
  extension = build_on_toy(handed, **{'data.partners': 'self', 'scl.temperature': 0.1})
  pair = branches([[1, 1, 1, 1], [1, 1, 1, 1]])
  embeddings = np.concatenate([b.fake_embedding for b in pair])
  np.testing.assert_allclose(extension.losses['g'](pair)['supcon_fake'],
                             slow_sup_con(embeddings, range(8), 4, 0.1), rtol=1e-5)


@pytest.mark.parametrize('settings, words', [
    ({'base': 'scl'}, 'config.base=scl'), ({'data.partners': ''}, 'data.partners='),
    ({'microbatches': 2}, '--config.microbatches=2: .* whole batch'),
    ({'scl.embedding': 'words'}, '--config.scl.embedding=words: choose one of frozen')])
def test_impossible_settings_are_refused(settings, words):
  with pytest.raises(UserError, match=words):
    methods.build(framework('ssa_gan', **settings))


@pytest.mark.parametrize('settings', [{'scl.embedding': 'discriminator'}, {'scl.supcon_real': 1.0}])
def test_a_discriminator_without_an_embedding_is_told(settings):
  method = methods.build(framework('df_gan', **settings))
  config = framework('df_gan', **settings)
  program = methods.program(method, config, make_mesh(jax.devices()[:1]))
  with pytest.raises(UserError, match='no embedding of images.*scl.embedding=frozen'):
    program.trace()


def test_embeddings_of_two_spaces_cannot_be_compared(text_folder):
  config = scl.config(toys.tiny_config(text_folder))
  config.scl.unicl = 0.1
  config.model.one_class, config.model.classes = False, 5
  method = methods.build(config)
  with pytest.raises(UserError, match='have .* and 8 features .* --config.scl.unicl=0'):
    toys.two_steps(method, 1)


def test_the_method_without_a_base_is_refused():
  config = tiny('ssa_gan')
  config.method = 'scl'
  with pytest.raises(UserError, match='needs the method'):
    methods.build(config)


def test_ssa_gan_is_one_round_of_discriminator_penalty_and_generator():
  phases = lambda config: [[(p.name, p.updates) for p in phases]
                           for phases in methods.build(config).objective.rounds]
  assert phases(tiny('ssa_gan')) == [
      [('discriminator', ('d',)), ('penalty', ('d',)), ('generator', ('g',))]]
  assert phases(tiny('ssa_gan', **{'terms.ma_gp': 0.0})) == [
      [('discriminator', ('d',)), ('generator', ('g',))]]


def trained(config, devices):
  """`toys.two_steps` of a method with the framework."""
  config.scl.unicl = 0.1
  method = methods.build(config)

  def rows(i):
    views = [toys.batch(method.batch_spec, 2 * i + j) for j in range(2)]
    batch = views[0] | {f'partner_{k}': v for k, v in views[1].items()}
    batch['label'] = batch['partner_label'] = toys.numbers(i).integers(0, 3, (1, 8)).astype(
        np.int32)
    return batch

  return toys.two_steps(method, devices, rows)


def test_eight_devices_are_one(text_folder):
  one, eight = (trained(scl.config(toys.quick_config(text_folder)), n) for n in (1, 8))
  toys.same_on_all_devices(one, eight)
  assert {'discriminator/d/hinge', 'discriminator/d/sentence', 'generator/g/hinge',
          'generator/g/supcon_fake', 'generator/g/unicl'} <= one[2].keys()
  # Without a moving average the generator is its own.
  networks, ema = one[1]
  jax.tree.map(np.testing.assert_array_equal, ema['g'], networks['g'].params)


@pytest.mark.thorough
def test_eight_devices_are_one_with_ssa_gan():
  one, eight = (trained(framework('ssa_gan'), n) for n in (1, 8))
  toys.same_on_all_devices(one, eight)
  assert {'penalty/d/ma_gp', 'generator/g/supcon_fake', 'generator/g/unicl'} <= one[2].keys()


class Toy:
  """In place of SSA-GAN's networks: logits d of real, g d of fake and d / 4 of wrong pairs.

  But for the last wrong pair, of the last image with the first sentence: 100 d.
  """
  sample, z_features = None, 0

  def __init__(self, *networks):
    del networks

  def init(self, rng, batch):
    return {'g': {'params': {'x': jnp.float32(0.5)}}, 'd': {'params': {'x': jnp.float32(0.25)}}}

  def generate(self, params, stats, frozen, batch, rngs):
    return ForwardOutputs(batch, None, (params['g']['x'],)), stats

  def discriminate(self, params, stats, frozen, generated):
    view = lambda x: DiscriminatorOutput((x * jnp.ones(8),))
    d, (g,) = params['d']['x'], generated.fake
    return dataclasses.replace(
        generated, d_real=view(d), d_fake=view(g * d),
        d_wrong=view(jnp.array([1 / 4] * 7 + [100]) * d), grad_norm_sq=d ** 2 * jnp.ones(8)), stats


def test_ssa_gans_losses_and_their_order_are_the_released_codes(monkeypatch):
  # Discriminator:    1 - d + (1 + g d + 1 + d / 4) / 2, derivative -1 + g / 2 + 1 / 8, of seven
  # wrong pairs.   Penalty: 2 d^6, derivative 12 d^5.   Generator: -g d, derivative -d.
  monkeypatch.setattr(ssa_gan, 'OneStageNetworks', Toy)
  method = methods.build(tiny('ssa_gan'))
  program = Program(method.objective, dict.fromkeys('gd', optax.sgd(1.0)), 0.0, method.frozen_spec,
                    method.batch_spec, make_mesh(jax.devices()[:1]))
  state, metrics = program.compile()(program.init(0), toys.fill(method.frozen_spec),
                                     toys.batch(method.batch_spec))
  g, d = 0.5, 0.25
  np.testing.assert_allclose(metrics['discriminator/d_loss'], 1 - d + (1 + g * d + 1 + d / 4) / 2,
                             rtol=1e-6)
  d -= -1 + g / 2 + 1 / 8
  np.testing.assert_allclose(metrics['penalty/d_loss'], 2 * d ** 6, rtol=1e-6)
  d -= 12 * d ** 5
  np.testing.assert_allclose(metrics['generator/g_loss'], -g * d, rtol=1e-6)
  np.testing.assert_allclose(state.networks['d'].params['x'], d, rtol=1e-6)
  np.testing.assert_allclose(state.networks['g'].params['x'], g + d, rtol=1e-6)


@pytest.mark.parametrize('partners', ['', 'exact', 'self'])
def test_the_losses_of_the_damsm_have_the_configs_gammas_and_its_mask(partners):
  text = toys.text(rows=4)
  outputs = ForwardOutputs({'label': np.array([0, 1, 2, 0])}, text,
                  fake_regions=toys.normal(3, 4, 5, toys.TEXT_FEATURES))
  config = tiny('ssa_gan', **{'terms.gamma1': 1.5, 'terms.gamma2': 2.5, 'terms.gamma3': 3.5,
                             'data.partners': partners})
  outputs = dataclasses.replace(outputs, fake_embedding=text.sentence)
  value = _damsm.damsm_losses(outputs, **_damsm.loss_options(config))['damsm_words']
  np.testing.assert_allclose(value, losses.words(
      outputs.fake_regions, text.words, text.mask, outputs.batch['label'], gamma1=1.5, gamma2=2.5,
      gamma3=3.5), rtol=1e-6)
