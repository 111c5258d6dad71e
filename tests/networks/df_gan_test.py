"""DF-GAN's networks: parameter counts of the released code, channels, and what images follow."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.networks import df_gan, one_stage
from xmc_jax.networks.base import Text

pytestmark = pytest.mark.slow

ROWS, NOISE = 4, 5


def spec(rows, size):
  shape = lambda dtype, *s: jax.ShapeDtypeStruct((rows, *s), dtype)
  return {'image': shape(jnp.float32, size, size, 3), 'tokens': shape(jnp.int32, toys.LENGTH),
          'mask': shape(jnp.bool_, toys.LENGTH)}


def test_published_sizes_have_the_counts_of_the_released_code():
  made = one_stage.OneStageNetworks(
      df_gan.DfGanGenerator(256, 32), df_gan.discriminator(256, 32), None, 256)
  found = jax.eval_shape(made.init, jax.random.key(0), spec(2, 256))
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree['params']))
  assert (count(found['g']), count(found['d'])) == (9_744_131, 6_915_142)


@pytest.mark.parametrize('size, up, down', [
    (32, (4, 2, 1), (2, 4, 8)), (64, (8, 4, 2, 1), (2, 4, 8, 8)),
    (256, (8, 8, 8, 4, 2, 1), (2, 4, 8, 8, 8, 8))])
def test_channels_by_size(size, up, down):
  text, z = toys.text(rows=2), toys.normal(5, 2, NOISE)
  made = df_gan.DfGanGenerator(size, 2)
  params = jax.eval_shape(lambda: made.init(jax.random.key(0), text, z, True))['params']
  blocks = [name for name in params if name.startswith('block_')]
  assert [params[f'block_{i}']['conv_out']['kernel'].shape[-1] for i in range(len(blocks))] == [
      2 * multiple for multiple in up]
  assert one_stage.down_multiples(size, df_gan.WIDEST) == down


def test_blocks_begin_without_an_effect_of_the_condition():
  x, condition = toys.normal(0, 2, 8, 8, 6), toys.normal(1, 2, NOISE)
  block = df_gan.FuseUpBlock(4, 16, df_gan.FAST, jnp.float32)
  out, variables = block.init_with_output(jax.random.key(0), x, condition)
  np.testing.assert_array_equal(block.apply(variables, x, -condition), out)


def test_images_follow_sentences_and_noise_and_training_changes_nothing():
  made = one_stage.OneStageNetworks(
      df_gan.DfGanGenerator(32, 4), df_gan.discriminator(32, 4),
      lambda frozen, batch: Text(None, batch['mask'], frozen['table'][batch['tokens'][:, 0]]),
      toys.TEXT_FEATURES, z_features=NOISE)
  variables = toys.fill(jax.eval_shape(made.init, jax.random.key(0), spec(ROWS, 32)))
  assert variables['g'].keys() == variables['d'].keys() == {'params'}
  params = jax.device_put({k: v['params'] for k, v in variables.items()})
  frozen = {'table': jnp.asarray(toys.normal(7, 13, toys.TEXT_FEATURES))}
  batch = toys.batch(spec(ROWS, 32))
  draw = jax.jit(lambda batch, z: made.sample(params['g'], {}, frozen, batch, z))
  z = toys.normal(3, ROWS, NOISE)
  images = draw(batch, z)
  assert images.shape == (ROWS, 32, 32, 3) and 0 <= images.min() < images.max() <= 1
  for other in (draw(batch | {'tokens': np.roll(batch['tokens'], 1, 0)}, z), draw(batch, -z)):
    assert np.abs(other - images).max() > 1e-3
  keys = jax.random.split(jax.random.key(1), ROWS)
  outputs, after = jax.jit(lambda batch: toys.forward(
      made, params, {'g': {}, 'd': {}}, frozen, batch, keys))(batch)
  drawn = jax.vmap(lambda key: jax.random.normal(key, (NOISE,)))(keys)
  np.testing.assert_allclose(outputs.fake[0], draw(batch, drawn), atol=1e-6)
  assert after == {'g': {}, 'd': {}}
