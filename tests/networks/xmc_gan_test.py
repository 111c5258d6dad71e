"""XMC-GAN's backbone: the published sizes, shapes at every side, and what its views depend on."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.networks.base import Text
from xmc_jax.networks.xmc_gan import UP_MULTIPLES, XmcNetworks

pytestmark = pytest.mark.usefixtures('strict')


def spec(rows, size, length=toys.LENGTH):
  shapes = {'image': ((rows, size, size, 3), jnp.float32), 'tokens': ((rows, length), jnp.int32),
            'mask': ((rows, length), jnp.bool_)}
  return {k: jax.ShapeDtypeStruct(*v) for k, v in shapes.items()}


def encode(frozen, batch):
  """A text encoder of one table; at padding it gives garbage, as a real one does."""
  words = frozen['table'][batch['tokens']]
  mean = jnp.where(batch['mask'][..., None], words, 0).mean(1)
  return Text(words, batch['mask'], mean)


def abstract(size, width, features=toys.TEXT_FEATURES, **options):
  """(backbone, shapes of its variables) for 4 rows."""
  networks = XmcNetworks(size, width, encode, features, **options)
  variables = jax.eval_shape(networks.init, jax.random.key(0), spec(4, size))
  return networks, variables


@pytest.mark.parametrize('size, width, g, d', [
    (128, 96, 78_507_779, 87_911_713), (256, 96, 92_865_539, 99_415_585),
    (128, 64, 37_361_795, 39_403_969), (256, 64, 44_443_267, 44_582_849)])
def test_parameters_are_as_many_as_the_published(size, width, g, d):
  _, variables = abstract(size, width, features=768)
  count = lambda network: sum(x.size for x in jax.tree.leaves(variables[network]['params']))
  assert (count('g'), count('d')) == (g, d)


def test_sizes_are_the_four_of_the_docs():
  assert sorted(UP_MULTIPLES) == [32, 64, 128, 256]


@pytest.mark.slow
@pytest.mark.parametrize('size', UP_MULTIPLES)
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_shapes_at_every_size(size, dtype):
  networks, variables = abstract(size, 2, dtype=dtype)
  params = {k: v['params'] for k, v in variables.items()}
  stats = {k: {c: v[c] for c in v if c != 'params'} for k, v in variables.items()}
  frozen = {'table': jax.ShapeDtypeStruct((13, toys.TEXT_FEATURES), jnp.float32)}

  def run(params, stats, frozen, batch, rng):
    outputs, stats = networks.forward(params, stats, frozen, batch, jax.random.split(rng, 4))
    return outputs.fake, outputs.d_fake.__dict__, outputs.d_real.__dict__, stats

  fake, *views, after = jax.eval_shape(run, params, stats, frozen, spec(4, size),
                                       jax.random.key(0))
  assert [(x.shape, x.dtype) for x in fake] == [((4, size, size, 3), jnp.float32)]
  last = 2 * 4 if size == 32 else 2 * 8 if size == 64 else 2 * 16
  for view in views:
    assert {k: jax.tree.map(lambda x: x.shape, v) for k, v in view.items()} == {
        'logits': ((4,),), 'features': (4, last), 'regions': (4, 256, toys.TEXT_FEATURES),
        'sentence': (4, last), 'unconditional': ()}
  assert after == stats
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((params, stats)))


@functools.cache
def world():
  """(backbone of 32 px, params, stats, frozen, batch) with numbers."""
  networks, variables = abstract(32, 4, z_features=5)
  variables = toys.fill(variables)
  params = {k: v.pop('params') for k, v in variables.items()}
  frozen = {'table': toys.normal(7, 13, toys.TEXT_FEATURES)}
  return networks, params, variables, frozen, toys.batch(spec(4, 32))


@functools.cache
def compiled_stage():
  def run(params, stats, frozen, batch, rng):
    outputs, stats = world()[0].forward(params, stats, frozen, batch, jax.random.split(rng, 4))
    return {'fake': outputs.fake[0], 'd_fake': outputs.d_fake.__dict__,
            'd_real': outputs.d_real.__dict__, 'stats': stats}
  return jax.jit(run)


def stage(batch=None, seed=0):
  _, params, stats, frozen, usual = world()
  out = compiled_stage()(params, stats, frozen, usual if batch is None else batch,
                         jax.random.key(seed))
  return jax.device_get(out)


def same(a, b):
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


@pytest.mark.slow
def test_images_lie_between_zero_and_one():
  fake = stage()['fake']
  assert fake.min() >= 0 and fake.max() <= 1 and fake.std() > 0.05


def test_padding_tokens_change_nothing():
  batch = world()[4]
  other = batch | {'tokens': np.where(batch['mask'], batch['tokens'], 12).astype(np.int32)}
  assert not batch['mask'].all() and same(stage(), stage(other))


def test_true_tokens_and_noise_change_the_fakes():
  batch = world()[4]
  other = batch | {'tokens': np.where(batch['mask'], 1 + batch['tokens'] % 12, 0).astype(np.int32)}
  fake = stage()['fake']
  assert all(np.abs(x - y).max() > 0.01 for x, y in zip(fake, stage(other)['fake']))
  assert all(np.abs(x - y).max() > 0.01 for x, y in zip(fake, stage(seed=1)['fake']))


def test_the_view_of_the_real_does_not_depend_on_noise_nor_the_fake_on_the_real():
  a, b = stage(), stage(seed=1)
  assert same(a['d_real'], b['d_real']) and not same(a['d_fake'], b['d_fake'])
  assert same(a['d_fake']['sentence'], a['d_real']['sentence'])
  batch = world()[4]
  c = stage(batch | {'image': 1 - batch['image']})
  assert same((a['fake'], a['d_fake']), (c['fake'], c['d_fake']))
  assert not same(a['d_real']['features'], c['d_real']['features'])


def test_statistics_of_both_players_advance():
  before, after = world()[2], stage()['stats']
  for network, collection in (('g', 'batch_stats'), ('d', 'spectral')):
    pairs = list(zip(jax.tree.leaves(before[network][collection]),
                     jax.tree.leaves(after[network][collection])))
    changed = [not np.array_equal(x, y) for x, y in pairs if y.size > 1]   # unit [1]: stays +-1
    assert changed and all(changed)


def test_real_and_fake_are_augmented_each_with_its_own_draw():
  networks = XmcNetworks(32, 2, encode, toys.TEXT_FEATURES,
                         augment=lambda rngs, x: seen.append((rngs, x.shape)) or x)
  seen, frozen = [], {'table': jnp.array(world()[3]['table'])}

  def run(rng):
    variables = networks.init(rng, spec(4, 32))
    params = {k: v.pop('params') for k, v in variables.items()}
    rngs = jax.random.split(rng, 4)
    return networks.forward(params, variables, frozen, toys.batch(spec(4, 32)), rngs)[0].fake[0]
  jax.eval_shape(run, jax.random.key(0))
  (real_rngs, real), (fake_rngs, fake) = seen
  assert real == fake == (4, 32, 32, 3) and real_rngs is not fake_rngs


def test_samples_do_not_depend_on_the_other_rows_but_training_does():
  networks, params, stats, frozen, batch = world()
  z = toys.normal(3, 4, 5)
  sample = jax.jit(networks.sample)
  all_rows = sample(params['g'], stats['g'], frozen, batch, z)
  z[1:] = 0
  np.testing.assert_allclose(sample(params['g'], stats['g'], frozen, batch, z)[0], all_rows[0],
                             atol=1e-6)
  mixed = batch | {'tokens': np.concatenate([batch['tokens'][:1], batch['tokens'][:0:-1]])}
  assert np.abs(stage(mixed)['fake'][0] - stage()['fake'][0]).max() > 1e-3


@pytest.mark.slow
def test_captions_that_are_no_training_captions_are_encoded_by_encode_any():
  networks, params, stats, frozen, batch = world()
  of_training = lambda frozen, batch: pytest.fail('a table of training captions was asked')
  cached = dataclasses.replace(networks, encode=of_training, encode_any=encode)
  z = toys.normal(2, 4, networks.z_features)
  np.testing.assert_array_equal(cached.sample(params['g'], stats['g'], frozen, batch, z),
                                networks.sample(params['g'], stats['g'], frozen, batch, z))


@pytest.mark.slow
def test_what_is_drawn_for_a_row_belongs_to_the_row():
  networks, params, stats, frozen, batch = world()
  drawn = []
  XmcNetworks(32, 4, encode, toys.TEXT_FEATURES, z_features=5,
              augment=lambda rngs, x: drawn.append(rngs) or x).forward(
                  params, stats, frozen, batch, jax.random.split(jax.random.key(0), 4))
  keys = [jax.random.key_data(rngs) for rngs in drawn]
  assert len(np.unique(np.concatenate(keys), axis=0)) == 8      # every row, real and fake


def test_codes_are_the_frozen_networks_of_the_last_scale():
  networks, params, stats, frozen, batch = world()
  embed_image = lambda frozen, x: x.mean((1, 2)) + frozen['table'][0, 0]
  networks = XmcNetworks(32, 4, encode, toys.TEXT_FEATURES, z_features=5, embed_image=embed_image)
  rngs = jax.random.split(jax.random.key(0), 4)
  outputs = jax.jit(lambda: networks.forward(params, stats, frozen, batch, rngs)[0])()
  for code, images in (
    (outputs.real_embedding, batch['image']),
    (outputs.fake_embedding, outputs.fake[-1]),
  ):
    np.testing.assert_allclose(code, embed_image(frozen, images), rtol=1e-5)
  assert world()[0].embed_image is None
