"""SSA-GAN's networks: parameter counts of the released code, a gated start, masks, and slopes."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.impl import FAST
from xmc_jax.layers.resample import align_corners_up
from xmc_jax.networks import one_stage, ssa_gan
from xmc_jax.networks.base import Text

pytestmark = pytest.mark.slow


def networks(size=32, width=4):
  encode = lambda frozen, batch: Text(frozen['table'][batch['tokens']], batch['mask'],
                                      frozen['table'][batch['tokens'][:, 0]])
  return one_stage.OneStageNetworks(
    ssa_gan.SsaGanGenerator(size, width),
    ssa_gan.discriminator(size, width),
    encode,
    toys.TEXT_FEATURES,
    z_features=5,
  )


def spec(rows, size):
  shape = lambda dtype, *s: jax.ShapeDtypeStruct((rows, *s), dtype)
  return {'image': shape(jnp.float32, size, size, 3), 'tokens': shape(jnp.int32, toys.LENGTH),
          'mask': shape(jnp.bool_, toys.LENGTH)}


@functools.cache
def world():
  made = networks()
  variables = toys.fill(jax.eval_shape(made.init, jax.random.key(0), spec(4, 32)))
  params = {k: v.pop('params') for k, v in variables.items()}
  frozen = {'table': toys.normal(7, 13, toys.TEXT_FEATURES)}
  return made, params, variables, frozen, toys.batch(spec(4, 32))


def stage(params, batch):
  made, _, stats, frozen, _ = world()
  run = jax.jit(functools.partial(toys.forward, made))
  return run(params, stats, frozen, batch, jax.random.split(jax.random.key(1), 4))


def test_published_sizes_have_the_counts_of_the_released_code():
  made = one_stage.OneStageNetworks(
    ssa_gan.SsaGanGenerator(256, 64), ssa_gan.discriminator(256, 64), None, 256
  )
  found = jax.eval_shape(made.init, jax.random.key(0), spec(2, 256))
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree['params']))
  assert (count(found['g']), count(found['d'])) == (29_494_273, 80_379_526)


@pytest.mark.parametrize('size, up, down', [
    (32, (8, 4, 2, 1), (2, 4, 8)), (64, (8, 8, 4, 2, 1), (2, 4, 8, 16)),
    (256, (8, 8, 8, 8, 4, 2, 1), (2, 4, 8, 16, 16, 16))])
def test_channels_by_size(size, up, down):
  assert ssa_gan.up_multiples(size) == up and one_stage.down_multiples(size, 16) == down


def test_blocks_begin_as_their_shortcuts():
  x, sentence = toys.normal(0, 2, 8, 8, 6), toys.normal(1, 2, 5)
  mask = jax.nn.sigmoid(toys.normal(2, 2, 8, 8, 1))
  same = ssa_gan.SsaGanUpBlock(6, None, ssa_gan.FAST, jnp.float32)
  out, _ = same.init_with_output(jax.random.key(0), x, sentence, mask, True)
  np.testing.assert_array_equal(out, x)
  down = one_stage.OneStageDownBlock(6, FAST, jnp.float32)
  out, _ = down.init_with_output(jax.random.key(0), x)
  np.testing.assert_allclose(out, x.reshape(2, 4, 2, 4, 2, 6).mean((2, 4)), atol=1e-6)


def test_modulation_begins_plain_and_acts_only_under_the_mask():
  x, sentence = toys.normal(0, 2, 8, 8, 6), toys.normal(1, 2, 5)
  mask = np.zeros((2, 8, 8, 1), np.float32)
  mask[:, :, 4:] = 0.5
  module = ssa_gan.Modulation(None, ssa_gan.FAST, jnp.float32)
  variables = module.init(jax.random.key(0), x, sentence, mask, True)
  plain = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
  run = lambda v: module.apply(v, x, sentence, mask, True, mutable=['batch_stats'])[0]
  np.testing.assert_allclose(run(variables), plain, atol=1e-5)
  params = toys.fill(variables['params'])
  hidden = lambda name: np.maximum(sentence @ params[f'{name}_hidden']['kernel']
                                   + params[f'{name}_hidden']['bias'], 0)
  gamma, beta = (hidden(name) @ params[name]['kernel'] + params[name]['bias']
                 for name in ('gamma', 'beta'))
  expected = plain * (1 + mask * gamma[:, None, None]) + mask * beta[:, None, None]
  np.testing.assert_allclose(run({**variables, 'params': params}), expected, atol=1e-4)


def test_enlarged_masks_keep_their_corners():
  x = toys.normal(0, 1, 4, 4, 1)
  out = np.asarray(align_corners_up(x))
  np.testing.assert_allclose(out[0, [0, 0, -1, -1], [0, -1, 0, -1], 0],
                             x[0, [0, 0, -1, -1], [0, -1, 0, -1], 0], atol=1e-6)
  row = np.interp(np.linspace(0, 3, 8), np.arange(4), x[0, 0, :, 0])
  np.testing.assert_allclose(out[0, 0, :, 0], row, atol=1e-6)


def test_images_follow_captions_and_not_padding():
  _, params, stats, frozen, batch = world()
  outputs, after = stage(params, batch)
  fake = outputs.fake[0]
  assert fake.shape == (4, 32, 32, 3) and 0 <= fake.min() < fake.max() <= 1
  other = batch | {'tokens': np.where(batch['mask'], batch['tokens'], 9)}
  assert (stage(params, other)[0].fake[0] == fake).all()
  other = batch | {'tokens': np.roll(batch['tokens'], 1, 0)}
  assert np.abs(stage(params, other)[0].fake[0] - fake).max() > 1e-3
  assert after['d'] == stats['d'] == {} and not jax.tree.all(jax.tree.map(
      np.array_equal, after['g'], stats['g']))


def test_wrong_pairs_are_real_images_with_the_next_sentence():
  made, params, _, frozen, batch = world()
  outputs, _ = stage(params, batch)
  sentence = frozen['table'][batch['tokens'][:, 0]]
  judge = lambda image, s: made.discriminator.apply({'params': params['d']}, 2 * image - 1, s)[0]
  found = judge(batch['image'], np.concatenate([sentence[1:], sentence[:1]]))
  np.testing.assert_allclose(outputs.d_wrong.logits[0], found, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(outputs.d_fake.logits[0], judge(outputs.fake[0], sentence),
                             rtol=1e-4, atol=1e-5)


def test_slope_is_that_of_finite_differences():
  made, params, _, frozen, batch = world()
  outputs, _ = stage(params, batch)
  sentence = frozen['table'][batch['tokens'][:, 0]].astype(np.float64)
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params['d'])
    discriminator = ssa_gan.discriminator(32, 4, dtype=jnp.float64)
    judge = jax.jit(lambda x, s: discriminator.apply({'params': wide}, x, s)[0])
    real = 2 * batch['image'].astype(np.float64) - 1
    squares = np.zeros(4)
    random = np.random.default_rng(0)
    trials = 120          # E |<g, u>|^2 = |g|^2 for u of independent signs
    for _ in range(trials):
      a, b = (random.choice([-1.0, 1.0], x.shape) for x in (real, sentence))
      up, down = (np.asarray(judge(real + e * a, sentence + e * b), np.float64)
                  for e in (1e-5, -1e-5))
      squares += ((up - down) / 2e-5) ** 2 / trials
  np.testing.assert_allclose(outputs.grad_norm_sq, squares, rtol=0.35)
