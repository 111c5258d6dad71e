"""Two branches and their term on top of other recipes; and SSA-GAN's three phases below them."""
import dataclasses
import functools
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from xmc_jax import recipes
from xmc_jax.branch import Branch, Text, Views
from xmc_jax.config import check
from xmc_jax.engine.mesh import make_mesh
from xmc_jax.engine.program import Program
from xmc_jax.losses import damsm as losses
from xmc_jax.objectives.splits import two_views
from xmc_jax.recipes import _damsm, attngan, dmgan, scl, ssagan
from xmc_jax.types import UserError

SHARED = {'batch_size': 8, 'model.size': 32, 'model.width': 4, 'model.z_features': 5,
          'text.words': 13, 'text.length': toys.LENGTH, 'image.encoder': 'squeezenet',
          'terms.damsm': 0.0}
STACKED = {'model.critic_width': 2, 'model.residuals': 1, 'model.condition_features': 3}
FAMILIES = {'attngan': (attngan, STACKED), 'dmgan': (dmgan, STACKED), 'ssagan': (ssagan, {})}


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


def spec(recipe, name):
  return recipe.batch_spec[name].shape, recipe.batch_spec[name].dtype


@pytest.mark.parametrize('family', FAMILIES)
def test_every_family_gets_a_second_view_of_the_same_shapes(family):
  plain, both = recipes.build(tiny(family)), recipes.build(framework(family))
  for key in plain.batch_spec:
    assert spec(both, key) == spec(both, f'partner_{key}') == spec(plain, key)
  assert spec(both, 'label') == spec(both, 'partner_label') == ((1, 8), np.int32)
  state = lambda recipe: jax.eval_shape(recipe.objective.init, jax.random.key(0), {
      k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for k, v in recipe.batch_spec.items()})
  assert state(plain) == state(both)       # branches share all weights


def test_so_does_xmc_gan_whose_fakes_an_image_network_looks_at(text_folder):
  config = scl.config(toys.tiny_config(text_folder))
  config.model.one_class, config.model.classes = False, 5
  recipe = recipes.build(config)
  assert spec(recipe, 'partner_label') == ((2, 8, 5), np.float32)
  assert spec(recipe, 'partner_image') == spec(recipe, 'image') == ((2, 8, 32, 32, 3), np.float32)
  assert 'image' in recipe.frozen_spec


@pytest.fixture
def handed(monkeypatch):
  """What a base recipe is given."""
  found = {}
  base = types.ModuleType('xmc_jax.recipes.toy')
  base.build = lambda config, **given: found.update(given)
  monkeypatch.setitem(sys.modules, 'xmc_jax.recipes.toy', base)
  return found


def build_on_toy(handed, **settings):
  config = framework('ssagan', **settings)
  config.base = 'toy'
  scl.build(config)
  return {term.name: term for term in handed['extra']['g']}


def branches(labels):
  """Two branches of four rows, with codes of fakes and captions."""
  make = lambda i: Branch({'label': np.array(labels[i])}, Text(None, None, toys.normal(i, 4, 6)),
                          fake_code=toys.normal(10 + i, 4, 6))
  return make(0), make(1)


def slow_sup_con(codes, labels, rows, temperature):
  """Row by row: the mean over positives of -log softmax over all other rows."""
  codes = codes / np.linalg.norm(codes, axis=1, keepdims=True)
  total = 0
  for i in range(len(codes)):
    others = [j for j in range(len(codes)) if j != i]
    positives = [j for j in others if labels[i] == labels[j] or j % rows == i % rows]
    scores = {j: codes[i] @ codes[j] / temperature for j in others}
    below = np.log(sum(np.exp(score) for score in scores.values()))
    total += np.mean([below - scores[j] for j in positives])
  return total / len(codes)


def test_the_term_draws_fakes_of_like_label_together(handed):
  terms = build_on_toy(handed)
  assert handed['split'] is two_views
  assert {name: term.weight for name, term in terms.items()} == {
      'alike_fakes': 0.2, 'alike_pairs': 0.0}
  labels = [[3, 1, 3, 2], [3, 1, 3, 0]]      # the last pair are partners all the same
  pair = branches(labels)
  codes = np.concatenate([b.fake_code for b in pair])
  np.testing.assert_allclose(terms['alike_fakes'].value(pair),
                             slow_sup_con(codes, sum(labels, []), 4, 0.5), rtol=1e-5)


def test_with_partners_of_the_same_picture_it_is_nt_xent(handed):
  terms = build_on_toy(handed, **{'data.partners': 'self', 'scl.temperature': 0.1})
  pair = branches([[1, 1, 1, 1], [1, 1, 1, 1]])
  codes = np.concatenate([b.fake_code for b in pair])
  np.testing.assert_allclose(terms['alike_fakes'].value(pair),
                             slow_sup_con(codes, range(8), 4, 0.1), rtol=1e-5)


@pytest.mark.parametrize('settings, words', [
    ({'base': 'scl'}, 'config.base=scl'), ({'data.partners': ''}, 'data.partners='),
    ({'accumulate': 2}, 'wrong pairs need all rows')])
def test_what_cannot_be_is_told(settings, words):
  with pytest.raises(UserError, match=words):
    recipes.build(framework('ssagan', **settings))


def test_codes_of_two_spaces_cannot_be_compared(text_folder):
  config = scl.config(toys.tiny_config(text_folder))
  config.scl.alike_pairs = 0.1
  config.model.one_class, config.model.classes = False, 5
  recipe = recipes.build(config)
  with pytest.raises(UserError, match='have .* and 8 numbers .* --config.scl.alike_pairs=0'):
    toys.two_steps(recipe, 1)


def test_the_recipe_without_a_base_is_told():
  config = tiny('ssagan')
  config.recipe = 'scl'
  with pytest.raises(UserError, match='needs the family'):
    recipes.build(config)


def test_ssagan_is_one_round_of_critic_penalty_and_generator():
  phases = lambda config: [[(p.name, p.updates) for p in phases]
                           for phases in recipes.build(config).objective.rounds]
  assert phases(tiny('ssagan')) == [
      [('critic', ('d',)), ('penalty', ('d',)), ('generator', ('g',))]]
  assert phases(tiny('ssagan', **{'terms.penalty': 0.0})) == [
      [('critic', ('d',)), ('generator', ('g',))]]


@functools.cache
def trained(devices):
  """`toys.two_steps` of SSA-GAN with the framework."""
  config = framework('ssagan', **{'scl.alike_pairs': 0.1})
  recipe = recipes.build(config)

  def rows(i):
    views = [toys.batch(recipe.batch_spec, 2 * i + j) for j in range(2)]
    batch = views[0] | {f'partner_{k}': v for k, v in views[1].items()}
    batch['label'] = batch['partner_label'] = toys.numbers(i).integers(0, 3, (1, 8)).astype(
        np.int32)
    return batch

  return toys.two_steps(recipe, devices, rows)


def test_eight_devices_are_one():
  toys.same_on_all_devices(trained(1), trained(8))
  assert {'critic/d/hinge', 'penalty/d/slope', 'generator/g/hinge', 'generator/g/alike_fakes',
          'generator/g/alike_pairs'} <= trained(1)[2].keys()


def test_without_an_average_the_generator_is_its_own():
  _, (players, ema), *_ = trained(1)
  jax.tree.map(np.testing.assert_array_equal, ema['g'], players['g'].params)


class Toy:
  """In place of SSA-GAN's networks: logits d of real, g d of fake and d / 4 of wrong pairs.

  But for the last wrong pair, of the last picture with the first sentence: 100 d.
  """
  sample = None

  def __init__(self, *networks):
    del networks

  def init(self, rng, batch):
    return {'g': {'params': {'x': jnp.float32(0.5)}}, 'd': {'params': {'x': jnp.float32(0.25)}}}

  def draw(self, params, stats, frozen, batch, rngs):
    return Branch(batch, None, (params['g']['x'],)), stats

  def judge(self, params, stats, frozen, drawn):
    view = lambda x: Views((x * jnp.ones(8),))
    d, (g,) = params['d']['x'], drawn.fake
    return dataclasses.replace(
        drawn, real_view=view(d), fake_view=view(g * d),
        wrong_view=view(jnp.array([1 / 4] * 7 + [100]) * d), slope=d ** 2 * jnp.ones(8)), stats


def test_ssagans_losses_and_their_order_are_the_released_codes(monkeypatch):
  # Critic:    1 - d + (1 + g d + 1 + d / 4) / 2, slope -1 + g / 2 + 1 / 8, of seven wrong pairs
  # Penalty:   2 d^6, slope 12 d^5;   generator: -g d, slope -d
  monkeypatch.setattr(ssagan, 'SsaGanBackbone', Toy)
  recipe = recipes.build(tiny('ssagan'))
  program = Program(recipe.objective, dict.fromkeys('gd', optax.sgd(1.0)), 0.0, recipe.frozen_spec,
                    recipe.batch_spec, make_mesh(jax.devices()[:1]))
  state, metrics = program.compile()(program.init(0), toys.fill(recipe.frozen_spec),
                                     toys.batch(recipe.batch_spec))
  g, d = 0.5, 0.25
  np.testing.assert_allclose(metrics['critic/d_loss'], 1 - d + (1 + g * d + 1 + d / 4) / 2,
                             rtol=1e-6)
  d -= -1 + g / 2 + 1 / 8
  np.testing.assert_allclose(metrics['penalty/d_loss'], 2 * d ** 6, rtol=1e-6)
  d -= 12 * d ** 5
  np.testing.assert_allclose(metrics['generator/g_loss'], -g * d, rtol=1e-6)
  np.testing.assert_allclose(state.players['d'].params['x'], d, rtol=1e-6)
  np.testing.assert_allclose(state.players['g'].params['x'], g + d, rtol=1e-6)


@pytest.mark.parametrize('partners', ['', 'exact', 'self'])
def test_the_terms_of_the_damsm_have_the_configs_gammas_and_its_mask(partners):
  text = toys.text(rows=4)
  branch = Branch({'label': np.array([0, 1, 2, 0])}, text,
                  fake_regions=toys.normal(3, 4, 5, toys.TEXT_FEATURES))
  config = tiny('ssagan', **{'terms.gamma1': 1.5, 'terms.gamma2': 2.5, 'terms.gamma3': 3.5,
                             'data.partners': partners})
  value = {term.name: term for term in _damsm.terms(config, None)}['damsm_words'].value((branch,))
  np.testing.assert_allclose(value, losses.words(
      branch.fake_regions, text.words, text.mask, branch.batch['label'], gamma1=1.5, gamma2=2.5,
      gamma3=3.5), rtol=1e-6)
