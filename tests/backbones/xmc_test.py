"""XMC-GAN's backbone: the published sizes, shapes at every side, and what its views depend on."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.backbones.xmc import UP_MULTIPLES, XmcBackbone
from xmc_jax.branch import Text

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
  backbone = XmcBackbone(size, width, encode, features, **options)
  variables = jax.eval_shape(backbone.init, jax.random.key(0), spec(4, size))
  return backbone, variables


@pytest.mark.parametrize('size, width, g, d', [
    (128, 96, 78_507_779, 87_911_713), (256, 96, 92_865_539, 99_415_585),
    (128, 64, 37_361_795, 39_403_969), (256, 64, 44_443_267, 44_582_849)])
def test_parameters_are_as_many_as_the_published(size, width, g, d):
  _, variables = abstract(size, width, features=768)
  count = lambda player: sum(x.size for x in jax.tree.leaves(variables[player]['params']))
  assert (count('g'), count('d')) == (g, d)


def test_sizes_are_the_four_of_the_docs():
  assert sorted(UP_MULTIPLES) == [32, 64, 128, 256]


@pytest.mark.parametrize('size', UP_MULTIPLES)
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_shapes_at_every_size(size, dtype):
  backbone, variables = abstract(size, 2, dtype=dtype)
  params = {k: v['params'] for k, v in variables.items()}
  stats = {k: {c: v[c] for c in v if c != 'params'} for k, v in variables.items()}
  frozen = {'table': jax.ShapeDtypeStruct((13, toys.TEXT_FEATURES), jnp.float32)}

  def run(params, stats, frozen, batch, rng):
    branch, stats = backbone.stage(params, stats, frozen, batch, jax.random.split(rng, 4))
    return branch.fake, branch.fake_view.__dict__, branch.real_view.__dict__, stats

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
  backbone, variables = abstract(32, 4, z_features=5)
  variables = toys.fill(variables)
  params = {k: v.pop('params') for k, v in variables.items()}
  frozen = {'table': toys.normal(7, 13, toys.TEXT_FEATURES)}
  return backbone, params, variables, frozen, toys.batch(spec(4, 32))


@functools.cache
def compiled_stage():
  def run(params, stats, frozen, batch, rng):
    branch, stats = world()[0].stage(params, stats, frozen, batch, jax.random.split(rng, 4))
    return {'fake': branch.fake[0], 'fake_view': branch.fake_view.__dict__,
            'real_view': branch.real_view.__dict__, 'stats': stats}
  return jax.jit(run)


def stage(batch=None, seed=0):
  _, params, stats, frozen, usual = world()
  out = compiled_stage()(params, stats, frozen, usual if batch is None else batch,
                         jax.random.key(seed))
  return jax.device_get(out)


def same(a, b):
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def test_pictures_lie_between_zero_and_one():
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
  assert same(a['real_view'], b['real_view']) and not same(a['fake_view'], b['fake_view'])
  assert same(a['fake_view']['sentence'], a['real_view']['sentence'])
  batch = world()[4]
  c = stage(batch | {'image': 1 - batch['image']})
  assert same((a['fake'], a['fake_view']), (c['fake'], c['fake_view']))
  assert not same(a['real_view']['features'], c['real_view']['features'])


def test_statistics_of_both_players_advance():
  before, after = world()[2], stage()['stats']
  for player, collection in (('g', 'batch_stats'), ('d', 'spectral')):
    pairs = list(zip(jax.tree.leaves(before[player][collection]),
                     jax.tree.leaves(after[player][collection])))
    changed = [not np.array_equal(x, y) for x, y in pairs if y.size > 1]   # unit [1]: stays +-1
    assert changed and all(changed)


def test_real_and_fake_are_augmented_each_with_its_own_draw():
  backbone = XmcBackbone(32, 2, encode, toys.TEXT_FEATURES,
                         augment=lambda rngs, x: seen.append((rngs, x.shape)) or x)
  seen, frozen = [], {'table': jnp.array(world()[3]['table'])}

  def run(rng):
    variables = backbone.init(rng, spec(4, 32))
    params = {k: v.pop('params') for k, v in variables.items()}
    rngs = jax.random.split(rng, 4)
    return backbone.stage(params, variables, frozen, toys.batch(spec(4, 32)), rngs)[0].fake[0]
  jax.eval_shape(run, jax.random.key(0))
  (real_rngs, real), (fake_rngs, fake) = seen
  assert real == fake == (4, 32, 32, 3) and real_rngs is not fake_rngs


def test_samples_do_not_depend_on_the_other_rows_but_training_does():
  backbone, params, stats, frozen, batch = world()
  z = toys.normal(3, 4, 5)
  sample = jax.jit(backbone.sample)
  all_rows = sample(params['g'], stats['g'], frozen, batch, z)
  z[1:] = 0
  np.testing.assert_allclose(sample(params['g'], stats['g'], frozen, batch, z)[0], all_rows[0],
                             atol=1e-6)
  mixed = batch | {'tokens': np.concatenate([batch['tokens'][:1], batch['tokens'][:0:-1]])}
  assert np.abs(stage(mixed)['fake'][0] - stage()['fake'][0]).max() > 1e-3


def test_what_is_drawn_for_a_row_belongs_to_the_row():
  backbone, params, stats, frozen, batch = world()
  drawn = []
  XmcBackbone(32, 4, encode, toys.TEXT_FEATURES, z_features=5,
              augment=lambda rngs, x: drawn.append(rngs) or x).stage(
                  params, stats, frozen, batch, jax.random.split(jax.random.key(0), 4))
  keys = [jax.random.key_data(rngs) for rngs in drawn]
  assert len(np.unique(np.concatenate(keys), axis=0)) == 8      # every row, real and fake


def test_codes_are_the_frozen_networks_of_the_last_scale():
  backbone, params, stats, frozen, batch = world()
  describe = lambda frozen, x: x.mean((1, 2)) + frozen['table'][0, 0]
  backbone = XmcBackbone(32, 4, encode, toys.TEXT_FEATURES, z_features=5, describe=describe)
  rngs = jax.random.split(jax.random.key(0), 4)
  branch = jax.jit(lambda: backbone.stage(params, stats, frozen, batch, rngs)[0])()
  for code, images in ((branch.real_code, batch['image']), (branch.fake_code, branch.fake[-1])):
    np.testing.assert_allclose(code, describe(frozen, images), rtol=1e-5)
  assert world()[0].describe is None
