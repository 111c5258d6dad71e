"""GALIP's networks: counts of the released code, a slow twin, gates, masks, slopes, gradients."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy_galip as slow
import pytest
import toys

from xmc_jax.encoders import clip, clip_inputs
from xmc_jax.encoders.clip_layers import TransformerConfig
from xmc_jax.layers import resample
from xmc_jax.networks import galip

ROWS, SIZE, NOISE, END = 4, 32, 5, 12
TOWER = functools.partial(TransformerConfig, activation='quick_gelu', eps=1e-5)
TINY = clip.ClipConfig(TOWER(8, 3, 2, 12), TOWER(6, 1, 2, 8), size=7, side=20, patch=4,
                       vocabulary=END + 1, positions=toys.LENGTH, end=None)
VIT_B_32 = clip.ClipConfig(TOWER(768, 12, 12, 3072), TOWER(512, 12, 8, 2048), 512, 224, 32, 49408,
                           77, None)


def networks(config=TINY, size=SIZE, width=4, noise=NOISE, see='single'):
  return galip.GalipNetworks(galip.GalipGenerator(size, width, config),
                             galip.GalipDiscriminator(width), clip.Clip(config), see, noise)


def spec(rows=ROWS, size=SIZE):
  shape = lambda dtype, *s: jax.ShapeDtypeStruct((rows, *s), dtype)
  return {'image': shape(jnp.float32, size, size, 3), 'tokens': shape(jnp.int32, toys.LENGTH),
          'mask': shape(jnp.bool_, toys.LENGTH)}


@functools.cache
def world():
  """Backbone, parameters, frozen weights and a batch of captions that end with the highest id."""
  made = networks()
  variables = toys.fill(jax.eval_shape(made.init, jax.random.key(0), spec()))
  frozen = {'clip': toys.fill(clip.spec(made.network), 1)}
  batch = toys.batch(spec())
  last = batch['mask'] & ~np.roll(batch['mask'], -1, 1)
  last[:, -1] = batch['mask'][:, -1]
  batch['tokens'] = np.where(last, END, batch['tokens'] % END).astype(np.int32)
  return made, {k: v['params'] for k, v in variables.items()}, frozen, batch


def branch_of(made, params, frozen, batch):
  return toys.forward(made, params, {'g': {}, 'd': {}}, frozen, batch,
                    jax.random.split(jax.random.key(1), ROWS))[0]


@functools.cache
def run():
  return jax.jit(functools.partial(branch_of, networks()))


def stage(**changes):
  _, params, frozen, batch = world()
  return run()(params, frozen, batch | changes)


@functools.cache
def looked():
  """Codes and maps of the real images."""
  made, _, frozen, batch = world()
  return made.network.apply(
    frozen['clip'],
    clip_inputs.preprocess_on_device(batch['image'], TINY.side),
    (0, 1, 2),
    method='image_features',
  )


def wide(tree):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


@pytest.mark.slow
def test_published_sizes_have_the_counts_of_the_released_code():
  made = networks(VIT_B_32, 224, 64, 100)
  found = jax.eval_shape(made.init, jax.random.key(0), spec(2, 224))
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  assert (count(found['g']), count(found['d'])) == (51_830_211, 30_806_021)
  assert count(found['d']['params']['head']) == 2_099_200
  frozen = clip.spec(made.network)
  assert count(frozen) + 1 == 151_277_313      # with the temperature, which is not read
  assert count(frozen['params']['text_transformer']) == 63_428_096
  draw = lambda v, *x: made.generator.apply(v, lambda x, *prompts: x, *x)
  images = jax.eval_shape(draw, found['g'], jnp.zeros((2, 512)), jnp.zeros((2, 100)))
  assert images.shape == (2, 224, 224, 3)


@pytest.mark.parametrize('layers, found', [(12, (1, 4, 8)), (24, (3, 9, 17)), (6, (0, 2, 4)),
                                           (3, (0, 1, 2))])
def test_layers_that_are_read(layers, found):
  assert galip.feature_layers(layers) == found


@pytest.mark.parametrize('grid, size, sides, widths', [
    (7, 224, (8, 16, 32, 64, 128, 224), (8, 8, 8, 4, 2, 1)),
    (7, 256, (8, 16, 32, 64, 128, 256), (8, 8, 8, 4, 2, 1)),
    (14, 224, (16, 32, 64, 128, 224), (8, 8, 4, 2, 1)),
    (8, 64, (16, 32, 64), (4, 2, 1)), (8, 32, (16, 32), (2, 1)), (5, 32, (8, 16, 32), (4, 2, 1))])
def test_sides_and_channels_of_blocks(grid, size, sides, widths):
  assert galip.sides(grid, size) == sides and galip.multiples(len(sides)) == widths


@pytest.mark.parametrize('old, new', [(7, 8), (128, 224), (7, 14)])
def test_nearest_pixels_are_those_below(old, new):
  x = np.arange(old, dtype=np.float32)
  found = resample.resize_nearest(jnp.broadcast_to(x[None, :, None, None], (1, old, old, 1)), new)
  np.testing.assert_array_equal(found[0, :, 0, 0], [int(i * old / new) for i in range(new)])
  turned = resample.resize_nearest(jnp.broadcast_to(x[None, None, :, None], (1, old, old, 1)), new)
  np.testing.assert_array_equal(turned[0, 0, :, 0], found[0, :, 0, 0])


def test_the_discriminator_begins_as_the_first_map_and_linear_up_to_the_judge():
  x, other = toys.normal(0, 2, 5, 5, 6), toys.normal(1, 2, 5, 5, 6)
  out, _ = galip.Reading(6, jnp.float32).init_with_output(jax.random.key(0), x, other)
  np.testing.assert_array_equal(out, x)
  out, variables = galip.Reading(3, jnp.float32).init_with_output(jax.random.key(0), x)
  np.testing.assert_allclose(out, slow.dense(x, variables['params']['shortcut']), atol=1e-6)


def test_the_condition_begins_without_effect():
  x, condition = toys.normal(0, 2, 5, 5, 6), toys.normal(1, 2, 4)
  out, _ = galip.Fuse(jnp.float32).init_with_output(jax.random.key(0), x, condition)
  np.testing.assert_allclose(out, np.where(x > 0, x, 0.04 * x), atol=1e-7)


@pytest.mark.slow
def test_fakes_are_those_of_a_slow_twin():
  made, params, frozen, _ = world()
  sentence, z = toys.normal(3, ROWS, TINY.size), toys.normal(4, ROWS, NOISE)
  run_clip = jax.jit(
    lambda *x: made.network.apply(frozen['clip'], *x, method='forward_with_prompts'),
    static_argnums=2,
  )
  found = jax.jit(lambda p: made.generator.apply({'params': p}, run_clip, sentence, z))(params['g'])
  expected = slow.generator(params['g'], run_clip, 0, TINY.grid, (8, 16, 32), sentence, z)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  # All of its parts matter: with random weights no part is small.
  without = slow.generator(params['g'], lambda x, prompts, first: 0 * x, 0, TINY.grid, (8, 16, 32),
                           sentence, z)
  assert np.abs(without - expected).max() > 1e-3 and found.std() > 0.01


@pytest.mark.slow
def test_logits_are_those_of_a_slow_twin_and_wrong_pairs_close_the_circle():
  _, params, _, _ = world()
  outputs = stage()
  sentence = np.asarray(outputs.text.sentence)
  code, maps = jax.device_get(looked())
  judge = functools.partial(slow.discriminator, params['d'])
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  close(outputs.d_real.logits[0], judge(maps, sentence))
  close(outputs.d_wrong.logits[0], judge(maps, sentence[[1, 2, 3, 0]]))
  close(outputs.real_embedding, code)
  assert np.abs(outputs.d_wrong.logits[0] - outputs.d_real.logits[0]).max() > 1e-3


def test_what_is_said_of_fakes_is_what_clip_sees_in_them():
  made, params, frozen, _ = world()
  outputs = stage()
  code, maps = made.network.apply(
    frozen['clip'],
    clip_inputs.preprocess_on_device(outputs.fake[0], TINY.side),
    (0, 1, 2),
    method='image_features',
  )
  np.testing.assert_allclose(outputs.fake_embedding, code, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
      outputs.d_fake.logits[0],
      slow.discriminator(params['d'], np.asarray(maps), np.asarray(outputs.text.sentence)),
      rtol=1e-4, atol=1e-5)


def test_slope_is_that_of_finite_differences_in_maps_and_sentence():
  params, outputs = wide(world()[1]['d']), stage()
  maps, sentence = wide(looked()[1]), wide(outputs.text.sentence)
  squares = []
  for row in range(ROWS):
    point = np.concatenate([maps[row].ravel(), sentence[row]])
    steps = 1e-6 * np.eye(len(point))
    judge = lambda x: slow.discriminator(
        params, x[:, :-TINY.size].reshape(-1, *maps.shape[1:]), x[:, -TINY.size:])
    squares.append(np.sum(((judge(point + steps) - judge(point - steps)) / 2e-6) ** 2))
  np.testing.assert_allclose(outputs.grad_norm_sq, squares, rtol=1e-4)


def test_images_follow_captions_and_not_padding():
  _, _, _, batch = world()
  fake = stage().fake[0]
  assert fake.shape == (ROWS, SIZE, SIZE, 3)
  for filler in (3, END):
    padded = np.where(batch['mask'], batch['tokens'], filler)
    assert (padded != batch['tokens']).any()
    np.testing.assert_array_equal(stage(tokens=padded).fake[0], fake)
  turned = stage(tokens=np.roll(batch['tokens'], 1, 0))
  assert np.abs(turned.fake[0] - fake).max() > 1e-3


@pytest.mark.slow
def test_samples_are_the_fakes_of_their_noise_within_bounds():
  made, params, frozen, batch = world()
  rngs = jax.random.split(jax.random.key(1), ROWS)
  z = np.stack([jax.random.normal(rng, (NOISE,)) for rng in rngs])
  bright = jax.tree.map(lambda x: 3 * x, params['g']['pixels'])
  params = {**params, 'g': {**params['g'], 'image': bright}}
  fake = run()(params, frozen, batch).fake[0]
  drawn = jax.jit(made.sample)(params['g'], {}, frozen, batch, z)
  assert fake.min() < 0 or fake.max() > 1
  np.testing.assert_allclose(drawn, np.clip(fake, 0, 1), atol=1e-5)


def test_clip_may_see_images_normalized_twice_as_in_the_released_code():
  _, params, frozen, batch = world()
  code = jax.jit(lambda *x: branch_of(networks(see='released'), *x).real_embedding)(
      params, frozen, batch)
  kept = [i * SIZE // TINY.side for i in range(TINY.side)]
  pixels = batch['image'][:, kept][:, :, kept] / 2 + 0.5
  pixels = ((pixels - clip_inputs.MEAN) / clip_inputs.STD).astype(np.float32)
  expected = clip.Clip(TINY).apply(frozen['clip'], pixels, method='image')
  np.testing.assert_allclose(code, expected, rtol=1e-4, atol=1e-5)
  assert np.abs(code - stage().real_embedding).max() > 1e-2


@pytest.mark.slow
def test_the_generator_learns_from_what_clip_says_of_its_images():
  made, params, frozen, batch = world()

  @jax.jit
  @jax.value_and_grad
  def similarity(g):
    outputs = branch_of(made, {**params, 'g': g}, frozen, batch)
    pair = [x / jnp.linalg.norm(x, axis=-1, keepdims=True)
            for x in (outputs.fake_embedding, outputs.text.sentence)]
    return jnp.mean(jnp.sum(pair[0] * pair[1], -1))

  _, gradient = similarity(params['g'])
  for name in ('start', 'bridge', 'prompts', 'join', 'pixels'):
    assert np.abs(gradient[name]['kernel']).max() > 1e-5
  norm = np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(gradient)))
  along = lambda e: float(similarity(jax.tree.map(
      lambda x, g: x + np.float32(e / norm) * g, params['g'], gradient))[0])
  np.testing.assert_allclose((along(3e-3) - along(-3e-3)) / 6e-3, norm, rtol=0.02)


def test_blocks_may_be_computed_again_in_the_backward_pass():
  sentence, z = toys.normal(3, ROWS, TINY.size), toys.normal(4, ROWS, NOISE)
  def traced(remat):
    module = galip.GalipGenerator(SIZE, 4, TINY, remat=remat)
    make = lambda: module.init(jax.random.key(0), lambda x, *prompts: x, sentence, z)
    shapes = jax.eval_shape(make)
    draw = lambda v: module.apply(v, lambda x, *prompts: x, sentence, z)
    return shapes, str(jax.make_jaxpr(draw)(shapes)).count('remat')
  plain, again = traced('nothing'), traced('blocks')
  assert plain == (again[0], 0) and again[1] == 3
