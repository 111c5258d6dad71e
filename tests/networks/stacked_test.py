"""The stacked backbones: published sizes, shapes at every side, and what their views depend on."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from PIL import Image

from xmc_jax.networks import attngan, dm_gan
from xmc_jax.networks.base import Text
from xmc_jax.networks.stacked import Condition, StackedNetworks, smaller

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('strict')]

FAMILIES = {'attngan': attngan, 'dm_gan': dm_gan}
every_family = pytest.mark.parametrize('family', FAMILIES)


def spec(rows, size, length=toys.LENGTH):
  shapes = {'image': ((rows, size, size, 3), jnp.float32), 'tokens': ((rows, length), jnp.int32),
            'mask': ((rows, length), jnp.bool_)}
  return {k: jax.ShapeDtypeStruct(*v) for k, v in shapes.items()}


def encode(frozen, batch):
  """A text encoder of one table; at padding it gives garbage."""
  words = jnp.asarray(frozen['table'])[batch['tokens']]
  return Text(words, batch['mask'], jnp.where(batch['mask'][..., None], words, 0).mean(1))


def abstract(family, size, width, d_width, residuals, features=toys.TEXT_FEATURES, look=None,
             dtype=jnp.float32, **options):
  """(backbone, shapes of its variables) for 4 rows."""
  module = FAMILIES[family]
  networks = StackedNetworks(
      module.generator(size, width, residuals, dtype=dtype, **options),
      module.discriminator(size, d_width, dtype=dtype), encode, features, look,
      **({'spectral': dm_gan.spectral} if family == 'dm_gan' else {}))
  return networks, jax.eval_shape(networks.init, jax.random.key(0), spec(4, size))


@pytest.mark.parametrize(
  'family, widths, g, d',
  [
    ('attngan', (32, 64, 2), 7_084_592, 97_596_678),
    ('attngan', (48, 96, 3), 13_811_456, 216_878_982),
    ('dm_gan', (64, 32, 2), 21_449_042, 25_298_598),
    ('dm_gan', (64, 32, 3), 22_335_314, 25_298_598),
  ],
)
def test_parameters_are_as_many_as_the_published(family, widths, g, d):
  _, variables = abstract(family, 256, *widths, features=256)
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  assert [count(variables[network]['params']) for network in 'gd'] == [g, d]
  if family == 'dm_gan':       # of one memory: 58,177
    assert count(variables['g']['params']['read_1']) == 58_177
  elif widths[0] == 32:       # discriminators of the three scales: 6.31, 19.42 and 71.86 million
    assert [round(count(d) / 1e6, 2) for d in variables['d']['params'].values()] == [
        6.31, 19.42, 71.86]


@every_family
@pytest.mark.parametrize('size, dtype', [
    (32, jnp.float32), (64, jnp.bfloat16), (128, jnp.float32)])
def test_shapes_at_every_size(family, size, dtype):
  look = lambda frozen, x: (x.mean((1, 2)), x.reshape(4, -1, 3))
  networks, variables = abstract(family, size, 2, 2, 1, look=look, dtype=dtype)
  params = {k: v['params'] for k, v in variables.items()}
  stats = {k: {c: v[c] for c in v if c != 'params'} for k, v in variables.items()}
  frozen = {'table': jax.ShapeDtypeStruct((13, toys.TEXT_FEATURES), jnp.float32)}

  def run(params, stats, frozen, batch, rng):
    outputs, stats = toys.forward(networks, params, stats, frozen, batch,
                               jax.random.split(rng, 4))
    return outputs, stats

  outputs, after = jax.eval_shape(run, params, stats, frozen, spec(4, size), jax.random.key(0))
  assert [(x.shape, x.dtype) for x in outputs.fake] == [
      ((4, s, s, 3), jnp.float32) for s in (size // 4, size // 2, size)]
  for view, alone in ((outputs.d_real, 3), (outputs.d_fake, 3), (outputs.d_wrong, 3)):
    assert [x.shape for x in view.logits] == 3 * [(4,)] and len(view.unconditional) == alone
  assert [x.shape for x in outputs.latent] == 2 * [(4, 100)]
  assert outputs.fake_embedding.shape == outputs.real_embedding.shape == (4, 3)
  assert outputs.fake_regions.shape == outputs.real_regions.shape == (4, size * size, 3)
  assert after == stats
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((params, stats)))


@functools.cache
def world(family, **options):
  """(backbone of 32 px, params, stats, frozen, batch) with numbers."""
  networks, variables = abstract(family, 32, 4, 2, 1, noise_features=5, condition_features=3,
                                 **options)
  variables = toys.fill(variables)
  params = {k: v.pop('params') for k, v in variables.items()}
  frozen = {'table': toys.normal(7, 13, toys.TEXT_FEATURES)}
  return networks, params, variables, frozen, toys.batch(spec(4, 32))


@functools.cache
def compiled(family, **options):
  networks, params, stats, frozen, _ = world(family, **options)

  def run(batch, seed, stats):
    outputs, stats = toys.forward(networks, params, stats, frozen, batch,
                               jax.random.split(jax.random.key(seed), 4))
    return {'fake': outputs.fake, 'latent': outputs.latent, 'd_real': outputs.d_real.__dict__,
            'd_fake': outputs.d_fake.__dict__, 'd_wrong': outputs.d_wrong.__dict__,
            'stats': stats}
  return jax.jit(run)


def stage(family, batch=None, seed=0, stats=None, **options):
  _, _, usual_stats, _, usual = world(family, **options)
  out = compiled(family, **options)(batch or usual, seed, stats or usual_stats)
  return jax.device_get(out)


def same(a, b):
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def repadded(batch):
  """The same captions with other tokens at their padding."""
  return batch | {'tokens': np.where(batch['mask'], batch['tokens'], 12).astype(np.int32)}


@every_family
def test_padding_tokens_change_nothing(family):
  assert not world(family)[4]['mask'].all()
  assert same(stage(family), stage(family, repadded(world(family)[4])))
  fake = stage(family)['fake']
  assert all(0 <= x.min() and x.max() <= 1 and x.std() > 0.01 for x in fake)


@every_family
def test_with_the_released_masks_padding_tokens_change_images(family):
  networks, params, stats, frozen, batch = world(family, mask='tiled')
  sample = jax.jit(networks.sample)
  z = toys.normal(3, 4, networks.z_features)
  a, b = (sample(params['g'], stats['g'], frozen, rows, z) for rows in (batch, repadded(batch)))
  assert np.abs(a - b).max() > 1e-4


@every_family
def test_words_change_the_later_scales(family):
  batch = world(family)[4]
  other = batch | {'tokens': np.where(batch['mask'], 1 + batch['tokens'] % 12, 0).astype(np.int32)}
  for x, y in zip(stage(family)['fake'], stage(family, other)['fake']):
    assert np.abs(x - y).max() > 0.01


@every_family
def test_views_depend_on_their_own_images(family):
  a, b = stage(family), stage(family, seed=1)
  assert same((a['d_real'], a['d_wrong'], a['latent']),
              (b['d_real'], b['d_wrong'], b['latent']))
  assert not same(a['d_fake'], b['d_fake']) and not same(a['fake'], b['fake'])
  batch = world(family)[4]
  c = stage(family, batch | {'image': 1 - batch['image']})
  assert same((a['fake'], a['d_fake']), (c['fake'], c['d_fake']))
  assert not same(a['d_real']['logits'], c['d_real']['logits'])


@every_family
def test_wrong_pairs_are_images_with_the_next_caption(family):
  # Of captions that are moved on by a row, the right pairs are the wrong ones of before.
  batch = world(family)[4]
  moved = batch | {k: np.roll(batch[k], -1, 0) for k in ('tokens', 'mask')}
  view = stage(family)['d_wrong']
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
               view, stage(family, moved)['d_real'])
  assert not same(view['logits'], stage(family)['d_real']['logits'])


@every_family
def test_statistics_move_and_views_of_the_discriminator_do_not_depend_on_running_ones(family):
  before, after = world(family)[2], stage(family)
  for network in 'gd':
    changed = [not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(before[network]),
                                                        jax.tree.leaves(after['stats'][network]))
               if np.size(x) > 1]
    assert changed and all(changed)
  if family == 'attngan':
    other = before | {'d': jax.tree.map(lambda x: 2 * x, before['d'])}
    assert same(after['d_fake'], stage(family, stats=other)['d_fake'])
    joint = lambda tree: np.asarray(
        tree['d']['batch_stats']['scale_2']['joint']['norm']['norm']['mean'])
    # Three passes: right pairs, wrong pairs and fakes; 0.9 ** 3 of what was there stays.
    doubled = stage(family, stats=other)['stats']
    np.testing.assert_allclose(joint(doubled) - joint(after['stats']), 0.729 * joint(before),
                               rtol=1e-4, atol=1e-5)


@every_family
def test_samples_do_not_depend_on_the_other_rows_but_training_does(family):
  networks, params, stats, frozen, batch = world(family)
  z = toys.normal(3, 4, networks.z_features)
  sample = jax.jit(networks.sample)
  all_rows = sample(params['g'], stats['g'], frozen, batch, z)
  assert all_rows.shape == (4, 32, 32, 3)
  z[1:] = 0
  np.testing.assert_allclose(sample(params['g'], stats['g'], frozen, batch, z)[0], all_rows[0],
                             atol=1e-6)
  mixed = batch | {'tokens': np.concatenate([batch['tokens'][:1], batch['tokens'][:0:-1]])}
  assert np.abs(stage(family, mixed)['fake'][0][0] - stage(family)['fake'][0][0]).max() > 1e-4


def test_real_images_are_reduced_as_pillow_does():
  image = toys.numbers(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
  found = smaller(jnp.array(image / np.float32(255)))
  assert [x.shape[1] for x in found] == [8, 16, 32]
  for side, x in zip((8, 16), found):
    pillow = [Image.fromarray(row).resize((side, side), Image.Resampling.BILINEAR)
              for row in image]
    assert np.abs(np.stack(pillow) - 255 * np.asarray(x)).max() <= 1     # Pillow rounds twice
  np.testing.assert_array_equal(found[2], image / np.float32(255))


def test_condition_is_drawn_from_its_own_moments():
  # sentence 1: moments = 1 * kernel, of which GLU gates the first half by sigmoid(0) = 1/2:
  # mean (1, 2), log variance (ln 4, 0); c = mean + (2, 1) * noise
  kernel = np.array([[2, 4, 2 * np.log(4), 0, 0, 0, 0, 0]], np.float32)
  params = {'moments': {'kernel': kernel, 'bias': np.zeros(8, np.float32)}}
  drawn, mean, log_variance = Condition(2).apply(
      {'params': params}, jnp.ones((1, 1)), jnp.array([[1.0, -1]]))
  np.testing.assert_allclose(mean, [[1, 2]], rtol=1e-6)
  np.testing.assert_allclose(log_variance, [[np.log(4), 0]], rtol=1e-6)
  np.testing.assert_allclose(drawn, [[3, 1]], rtol=1e-6)


def memory(x, **changes):
  """A memory of two channels over two words, with biases that hold its gates as told."""
  words, mask = toys.normal(1, 2, 2, 3), np.ones((2, 2), bool)
  module = dm_gan.DynamicMemory()
  params = toys.fill(jax.eval_shape(lambda: module.init(
      jax.random.key(0), x, words, mask)))['params']
  for name, leaves in changes.items():
    params[name] = params[name] | leaves
  return np.asarray(module.apply({'params': params}, jnp.array(x), jnp.array(words), mask)), params


def test_a_closed_response_leaves_the_map():
  x = toys.normal(0, 2, 4, 4, 2)
  out, _ = memory(x, response={'bias': np.array([-100], np.float32)})
  np.testing.assert_allclose(out, np.concatenate([x, x], -1), rtol=1e-6)


def test_an_open_response_of_a_memory_of_images_gives_one_value_everywhere():
  # Gate 0: each slot holds the map's mean alone, so all values are one; the response lets all in.
  x = 1 + np.abs(toys.normal(0, 2, 4, 4, 2))
  closed = {'kernel': np.full((2, 1), -1000, np.float32)}
  silent = {'kernel': np.zeros((3, 1), np.float32)}
  out, p = memory(x, response={'bias': np.array([100], np.float32)}, gate_mean=closed,
                  gate_word=silent)
  slot = np.maximum(x.mean((1, 2)) @ p['write_mean']['kernel'] + p['write_mean']['bias'], 0)
  value = np.maximum(slot @ p['value']['kernel'] + p['value']['bias'], 0)
  np.testing.assert_allclose(out, np.tile(value[:, None, None], (1, 4, 4, 2)), rtol=1e-4, atol=1e-6)


def test_the_maps_mean_writes_without_gradient():
  # Where the gate and the response let only the map's mean through, the map learns nothing.
  x = jnp.array(1 + np.abs(toys.normal(0, 2, 4, 4, 2)))
  open_response = {'bias': np.array([100], np.float32), 'kernel': np.zeros((4, 1), np.float32)}
  _, params = memory(x, response=open_response, gate_word={'kernel': np.zeros((3, 1), np.float32)},
                     gate_mean={'kernel': np.full((2, 1), -1000, np.float32)})
  run = lambda x: jnp.sum(dm_gan.DynamicMemory().apply(
      {'params': params}, x, jnp.array(toys.normal(1, 2, 2, 3)), jnp.ones((2, 2), bool)))
  assert not jax.grad(run)(x).any() and run(x) != run(2 * x)


def test_logits_and_biases_are_not_spectrally_normalized():
  params = abstract('dm_gan', 64, 2, 2, 1)[1]['d']
  names = lambda tree: {path[1].key for path, _ in jax.tree_util.tree_leaves_with_path(tree)}
  assert names(params['params']) - names(params['spectral']) == {'logit_alone', 'logit_paired'}
  assert {path[-1].key for path, _ in
          jax.tree_util.tree_leaves_with_path(params['spectral'])} == {'kernel'}


def test_blocks_are_what_is_recomputed():
  # Two residual blocks, and doublings: one of the first stage and one of each later stage.
  text, z = toys.text(rows=4), toys.normal(5, 4, 200)

  def trace(what):
    generator = attngan.generator(32, 4, 1, remat=what)
    variables = jax.eval_shape(lambda: generator.init(jax.random.key(0), text, z, True))
    run = lambda v: generator.apply(v, text, z, True, mutable=['batch_stats'])
    return variables, [e.primitive.name for e in jax.make_jaxpr(run)(variables).eqns]

  (plain, usual), (same, marked) = trace('nothing'), trace('blocks')
  assert plain == same
  assert [sum('remat' in name or 'checkpoint' in name for name in names)
          for names in (usual, marked)] == [0, 5]
