"""The method Swift: order, losses, who learns from what, on any devices; and cached captions."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from xmc_jax import methods
from xmc_jax.data import source as sources
from xmc_jax.layers.spectral import spectral_normalize
from xmc_jax.losses.matching import word_scores_reference
from xmc_jax.losses.tokens import shown_token_loss, token_losses
from xmc_jax.methods import _caption_table, scl, swift
from xmc_jax.methods._bert import FrozenBert
from xmc_jax.networks import matcher
from xmc_jax.networks import swift as swift_networks
from xmc_jax.networks.base import DiscriminatorOutput, Text
from xmc_jax.networks.swift import SwiftOutputs
from xmc_jax.training.mesh import make_mesh
from xmc_jax.training.program import Program
from xmc_jax.types import UserError

LOSSES = {'d': {'hinge', 'heads_sentence', 'heads_word'},
          'g': {'hinge', 'sentence', 'word', 'pixels', 'perceptual', 'kl'}}


@pytest.fixture(scope='module')
def tiny(text_folder):
  return functools.partial(toys.swift_config, text_folder)


@pytest.fixture(scope='module')
def trained(tiny):
  return functools.cache(lambda devices: toys.two_steps(methods.build(tiny()), devices))


@pytest.mark.slow
@pytest.mark.thorough
def test_eight_devices_are_one(trained):
  toys.same_on_all_devices(trained(1), trained(8))


def test_a_step_is_one_round_of_heads_then_generator(tiny, trained):
  objective = methods.build(tiny()).objective
  assert [[(p.name, p.updates) for p in phases] for phases in objective.rounds] == [
      [('heads', ('d',)), ('generator', ('g',))]]
  assert objective.averaged == ('g',)
  phases = {'d': 'heads', 'g': 'generator'}
  assert trained(1)[2].keys() == {
    f'{phases[network]}/{network}/{name}' for network in 'dg' for name in LOSSES[network]
  } | {
    f'{phases[network]}/{network}_{name}' for network in 'dg' for name in ('loss', 'grad_max')
  } | {f'heads/accuracy/{name}' for name in ('real', 'fake', 'wrong')}


def before_a_step(method):
  """({network: loss}, metrics) of both phases, which compile faster without their gradients."""
  program = Program(method.objective, {name: optax.sgd(1.0) for name in 'gd'}, 0.0,
                    method.frozen_spec, method.batch_spec, make_mesh(jax.devices()[:1]))
  networks, frozen = toys.state(program).networks, toys.fill(method.frozen_spec)
  params, stats = ({name: getattr(network, what) for name, network in networks.items()}
                   for what in ('params', 'stats'))
  batch = {key: value[0] for key, value in toys.batch(method.batch_spec).items()}
  phases, = method.objective.rounds

  @jax.jit
  def forward(*trees):
    rng = jax.random.key(0)
    outcomes = [phase.forward(*trees, rng, phase.shared.run(*trees, rng)[0]) for phase in phases]
    return ({name: loss for x in outcomes for name, loss in x.losses.items()},
            {name: value for x in outcomes for name, value in x.metrics.items()})
  return forward(params, stats, frozen, batch)


@pytest.mark.slow
def test_options_reach_the_losses_and_the_heads(tiny):
  config = tiny(**{'terms.token': 0.1, 'terms.heads_token': 0.5})
  (plain_losses, plain), (losses, found) = map(before_a_step, map(methods.build, (tiny(), config)))
  assert found.keys() - plain.keys() == {'d/heads_token', 'g/token'}
  for network, name in (('d', 'd/heads_token'), ('g', 'g/token')):      # with their weights
    assert found[name] > 0.01
    np.testing.assert_allclose(losses[network] - plain_losses[network], found[name], rtol=1e-2)
  words = before_a_step(methods.build(tiny(**{'model.heads_words': True})))[1]
  assert abs(words['d/hinge'] - plain['d/hinge']) > 1e-3     # by words, not sentences


def test_fine_blocks_are_those_of_the_config(tiny):
  method = methods.build(tiny(**{'model.fine': 1}))
  program = Program(method.objective, {name: optax.sgd(1.0) for name in 'gd'}, 0.0,
                    method.frozen_spec, method.batch_spec, make_mesh(jax.devices()[:1]))
  assert 'fine_0' in program.state_spec.networks['g'].params['generator']


@pytest.mark.slow
def test_noise_of_samples_has_the_standard_deviation_of_the_config(tiny, trained):
  method = methods.build(tiny())
  g, z = trained(1)[0][0]['g'], toys.normal(3, 8, method.z_features)
  inputs = {key: value[0] for key, value in toys.batch(method.batch_spec).items()}
  draw = lambda built, z: jax.jit(built.sample)(g.params, g.stats, toys.fill(method.frozen_spec),
                                                inputs, z)
  wide = draw(methods.build(tiny(**{'model.noise_std': 1.5})), z)
  np.testing.assert_allclose(wide, draw(method, 1.5 * z), atol=1e-6)
  assert np.abs(wide - draw(method, z)).max() > 1e-3


@pytest.mark.slow
def test_images_match_their_captions_by_the_word_losses_of_the_heads(tiny, trained):
  """Against the same pairs one by one, from what the heads give in training."""
  method = methods.build(tiny(**{'model.heads_words': True}))
  networks, frozen = method.match.__self__, toys.fill(method.frozen_spec)
  d = trained(1)[0][0]['d']
  batch = {key: value[0] for key, value in toys.batch(method.batch_spec).items()}
  found = jax.jit(method.match)(d.params, d.stats, frozen, batch, batch['image'])
  weights, _ = spectral_normalize(d.params, d.stats['spectral'])
  text = networks.encode_any(frozen, batch)
  out, = networks.heads.apply({'params': weights},
                              networks.maps(frozen['backbone'], batch['image']), text)
  for i, (regions, words, mask) in enumerate(zip(out.regions, text.words, text.mask)):
    score = word_scores_reference(regions[None], words[None], mask[None])[0, 0]
    loss = token_losses(regions[None], words[None], mask[None])[0, :mask.sum()].mean()
    np.testing.assert_allclose(found[i], score - 5.0 * loss, rtol=1e-4, atol=1e-4)
  assert np.std(found) > 1e-3


@pytest.mark.slow
def test_a_matching_network_chooses_and_is_learned_from(tiny, trained):
  settings = {'model.matcher': 'FILE', 'terms.matcher': 0.5}
  method, plain = methods.build(tiny(**settings)), methods.build(tiny())
  assert method.match_needs == ('backbone', 'matcher') and plain.match_needs == ('backbone',)
  first, (networks, _), metrics, frozen = toys.two_steps(method, 1)
  assert metrics.keys() - trained(1)[2].keys() == {'generator/g/matcher'}
  assert toys.largest(networks['g'].params, trained(1)[1][0]['g'].params) > 1e-5
  d, batch = first[0]['d'], toys.batch(method.batch_spec)
  batch = {key: value[0] for key, value in batch.items()}
  of = lambda method: jax.jit(method.match)(d.params, d.stats, frozen, batch, batch['image'])
  text = method.match.__self__.encode_any(frozen, batch)
  logits = matcher.logits_of(frozen['matcher'], batch['image'], text)[:, 0]
  np.testing.assert_allclose(of(method) - of(plain), swift_networks.MATCH_LOGIT * logits, atol=1e-3)
  assert np.std(logits) > 1e-3
  two = jax.tree.map(lambda x: x[:2], (batch['image'], text))      # one caption is of another image
  shape = jax.eval_shape(functools.partial(method.match.__self__.match_logits, frozen),
                         jax.random.split(jax.random.key(0), 2), *two)
  assert shape.shape == (2, 2)
  with pytest.raises(UserError, match='terms.matcher: there is no matching network'):
    methods.build(tiny(**settings | {'model.matcher': ''}))


def test_frozen_weights_stay(tiny, trained):
  method = methods.build(tiny())
  jax.tree.map(np.testing.assert_array_equal, trained(1)[3], toys.fill(method.frozen_spec))
  assert method.frozen_spec.keys() == {'text', 'backbone'} and method.sample_needs == ('text',)


def test_losses_of_the_generator_take_heads_by_their_weight_and_words_by_the_real_image():
  logits = tuple(toys.normal(i, 8, 3) for i in range(4))
  out = SwiftOutputs(
    {}, Text(toys.normal(9, 8, 2, 3), np.ones((8, 2), bool), None),
    d_fake=DiscriminatorOutput(logits, toys.normal(5, 8, 4), toys.normal(6, 8, 5, 3),
                               toys.normal(7, 8, 4)),
    d_real=DiscriminatorOutput((), regions=toys.normal(8, 8, 5, 3)),
    latent=(np.zeros((8, 2)), np.zeros((8, 2))), pixels=np.full(8, 0.5),
    perceptual=np.full(8, 0.25))
  wanted = -sum(w * x.mean() for w, x in zip((2.0, 0.25, 0.1, 0.05), logits, strict=True))
  found = swift.generator_losses(out)
  np.testing.assert_allclose(found['hinge'], wanted, rtol=1e-5)
  assert (found['pixels'], found['perceptual'], found['kl']) == (0.5, 0.25, 0)
  shown = shown_token_loss(out.d_fake.regions, out.d_real.regions, out.text.words, out.text.mask)
  np.testing.assert_allclose(found['token'], shown, rtol=1e-5)


@pytest.mark.slow
def test_two_branches_get_labels_and_partners(tiny):
  config = scl.config(tiny())
  config.scl.update(embedding='discriminator', supcon_real=0.5)
  method = methods.build(config)
  assert {'label', 'partner_image', 'partner_label'} <= method.batch_spec.keys()
  program = Program(method.objective, {name: optax.sgd(1.0) for name in 'gd'}, 0.0,
                    method.frozen_spec, method.batch_spec, make_mesh(jax.devices()[:1]))
  run = lambda state, frozen, batch: [r(state, frozen, batch)[1] for r in _rounds(method)]
  found, = jax.eval_shape(run, program.state_spec, method.frozen_spec, method.batch_spec)
  assert {'heads/d/supcon_real', 'generator/g/supcon_fake'} <= found.keys()


def _rounds(method):
  from xmc_jax.training.step import make_rounds
  return make_rounds(method.objective, {name: optax.sgd(1.0) for name in 'gd'}, 0.0)


@pytest.mark.parametrize('settings, message', [
    ({'model.size': 48}, 'model.size=48: swift is built for 32, 64, 128 px'),
    ({'model.widths': (8, 6)}, 'model.widths: has 2 numbers; images of 32 px need 3'),
    ({'model.places': True}, '4 x 4 places of 16 px need model.size = 64'),
    ({'model.noise_std': 0.0}, 'model.noise_std=0.0: must be above 0'),
    ({'model.known': 0.0}, 'model.known=0.0: must be above 0'),
    ({'model.augment': ('blur',)}, '--config.model.augment=blur')])
def test_mistakes_in_the_config_are_named(tiny, settings, message):
  with pytest.raises(UserError, match=message):
    methods.build(tiny(**settings))


class Captions:
  """In place of a data set: four images, seven captions; 'A' has the tokens of 'a', 'D' of 'd'."""
  texts = (('a', 'b'), ('c', 'a'), ('d', 'e'), ('A', 'D'))

  def __len__(self):
    return len(self.texts)

  def captions(self, index):
    return self.texts[index]


class Letters:
  """In place of a tokenizer: CLS, the number of the letter, SEP and padding."""

  def encode(self, captions):
    tokens = np.array([[1, ord(c.lower()), 2, 0] for c in captions], np.int32)
    return tokens, tokens > 0


def test_captions_with_the_same_first_key_are_told_apart(monkeypatch, tiny):
  """Of the captions of a large set some have the same key of 32 bits; here all have."""
  keys_of = _caption_table.keys_of
  monkeypatch.setattr(_caption_table, 'keys_of', lambda tokens: keys_of(tokens).at[:, 0].set(7))
  monkeypatch.setattr(_caption_table, 'TIES', 5)
  test_cached_captions_are_as_the_encoder_gives_them(monkeypatch, tiny)
  monkeypatch.setattr(_caption_table, 'keys_of', lambda tokens: 0 * keys_of(tokens))
  with pytest.raises(UserError, match='text.cached: captions of this set have the same keys'):
    test_cached_captions_are_as_the_encoder_gives_them(monkeypatch, tiny)


def test_cached_captions_are_as_the_encoder_gives_them(monkeypatch, tiny):
  monkeypatch.setattr(sources, 'load', lambda *args, **options: Captions())

  def encode(frozen, batch):
    words = jnp.sin(frozen['text'] * batch['tokens'][..., None] * jnp.arange(1, 4))
    return Text(words, batch['mask'], words.mean(1))

  text_encoder = FrozenBert(3, encode, lambda: jnp.float32(0.1), None, Letters, {})
  found, load, spec = _caption_table.table(tiny(**{'text.length': 4}), text_encoder)
  embeddings = load()
  assert jax.tree.map(lambda x: (x.shape, x.dtype), embeddings) == jax.tree.map(
      lambda x: (x.shape, x.dtype), spec)
  assert spec['words'].shape == (7, 4, 3)
  jax.tree.map(np.testing.assert_array_equal, load(), embeddings)      # from the disk
  tokens, mask = Letters().encode(['e', 'a', 'c', 'd'])
  batch = {'tokens': tokens, 'mask': mask}
  text, wanted = found({'captions': embeddings}, batch), encode({'text': 0.1}, batch)
  np.testing.assert_allclose(text.words, wanted.words, atol=1e-3)
  np.testing.assert_allclose(text.sentence, wanted.words[:, :3].mean(1), atol=1e-3)


def test_cached_captions_of_all_lengths_are_encoded(monkeypatch, tiny, tmp_path):
  """Short ones together, in fewer positions, of which the encoder sees no more."""
  seen = []

  class Source(Captions):
    texts = tuple((i * 'a', i * 'b') for i in (9, 1, 17, 8, 12))

  class Words:
    def encode(self, captions):
      tokens = np.array([[*map(ord, c.ljust(24, '\0'))] for c in captions], np.int32)
      return tokens, tokens > 0

  def encode(frozen, batch):
    seen.append(batch['tokens'].shape)
    words = frozen['text'] * batch['tokens'][..., None] + batch['mask'].sum(1)[:, None, None]
    return Text(words, batch['mask'], words.mean(1))

  monkeypatch.setenv('XMC_JAX_CACHE', str(tmp_path))
  monkeypatch.setattr(_caption_table, 'ROWS', 4)
  monkeypatch.setattr(sources, 'load', lambda *args, **options: Source())
  found, load, _ = _caption_table.table(tiny(**{'text.length': 24}), FrozenBert(
      1, encode, lambda: jnp.float32(0.01), None, Words, {}))
  table = load()
  assert seen == [(4, 8), (4, 16), (4, 24)]
  tokens, mask = Words().encode([text for texts in Source.texts for text in texts])
  batch = {'tokens': tokens, 'mask': mask}
  words, wanted = (x.words * mask[..., None] for x in (
      found({'captions': table}, batch), encode({'text': 0.01}, batch)))
  np.testing.assert_allclose(words, wanted, rtol=1e-3)
