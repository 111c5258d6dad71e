"""Swift's networks: distances and modulation against plain numpy, and what sees what."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.encoders import squeezenet
from xmc_jax.networks import swift, swift_generator, swift_heads
from xmc_jax.networks.base import Text

ROWS, SIZE, NOISE, WORD = 8, 32, 5, toys.TEXT_FEATURES
WIDTHS = (8, 6, 4)


def encode(frozen, batch):
  """Captions as the frozen text encoder gives them: here they lie in the batch."""
  del frozen
  return Text(batch['words'], batch['mask'], batch['sentence'])


def networks(known=1.0, augment=lambda rngs, x: x):
  return swift.SwiftNetworks(
    swift_generator.SwiftGenerator(WIDTHS, last=4),
    swift_heads.Heads(WORD, 4, features=6),
    SIZE,
    encode,
    encode,
    WORD,
    augment,
    NOISE,
    known,
  )


@functools.cache
def world():
  """Parameters, statistics, frozen weights and a batch."""
  text = toys.text(rows=ROWS)
  batch = {'image': toys.numbers(3).random((ROWS, SIZE, SIZE, 3)).astype(np.float32),
           'tokens': np.zeros((ROWS, toys.LENGTH), np.int32), 'mask': text.mask,
           'words': text.words, 'sentence': text.sentence}
  variables = toys.fill(jax.eval_shape(networks().init, jax.random.key(0), batch))
  frozen = {'backbone': toys.fill(squeezenet.maps_variables_spec(), 1)}
  return ({k: v['params'] for k, v in variables.items()},
          {'g': {}, 'd': {'spectral': variables['d']['spectral']}}, frozen, batch)


@functools.cache
def staged(known=1.0):
  return jax.jit(functools.partial(toys.forward, networks(known)))


def outputs(known=1.0, params=None, **changes):
  usual, stats, frozen, batch = world()
  rngs = jax.random.split(jax.random.key(1), ROWS)
  return staged(known)(params or usual, stats, frozen, batch | changes, rngs)[0]


def test_modulated_is_the_formula():
  x, condition = toys.normal(0, 2, 3, 3, 4), toys.normal(1, 2, 5)
  module = swift_generator.Modulated()
  params = toys.fill(jax.eval_shape(module.init, jax.random.key(0), x, condition))
  film = condition @ params['params']['film']['kernel'] + params['params']['film']['bias']
  scale, shift = film[:, None, None, :4], film[:, None, None, 4:]
  h = x / np.sqrt(np.mean(x ** 2, -1, keepdims=True)) * (1 + scale) + shift
  np.testing.assert_allclose(module.apply(params, x, condition), h / (1 + np.exp(-h)), rtol=1e-4,
                             atol=1e-5)


def test_reading_words_is_attention_head_by_head():
  text, x = toys.text(rows=2), toys.normal(5, 2, 2, 2, 3)
  module = swift_generator.Reader(heads=2, features=4)
  params = toys.fill(jax.eval_shape(module.init, jax.random.key(0), x, text.words,
                                    text.mask))['params']
  dense = lambda name, y: y @ params[name]['kernel'] + params[name]['bias']
  rms = lambda y: y / np.sqrt(np.mean(y ** 2, -1, keepdims=True))
  wanted = np.zeros_like(x)
  for row in range(2):
    true = text.mask[row]
    queries, keys, values = (dense(name, rms(y)).reshape(-1, 2, 4) for name, y in (
        ('query', x[row].reshape(4, 3)), ('key', text.words[row][true]),
        ('value', text.words[row][true])))
    read = []
    for head in range(2):
      scores = np.exp(queries[:, head] @ keys[:, head].T / 2)
      read.append(scores / scores.sum(1, keepdims=True) @ values[:, head])
    wanted[row] = dense('out', np.concatenate(read, 1)).reshape(2, 2, 3)
  np.testing.assert_allclose(module.apply({'params': params}, x, text.words, text.mask), wanted,
                             rtol=2e-4, atol=1e-4)


def test_pixel_distance_counts_fine_and_coarse_differences():
  a = np.full((2, 16, 16, 3), 0.5, np.float32)
  board = (np.indices((16, 16)).sum(0) % 2 - 0.5)[..., None]
  b = np.stack([a[0] + 0.2, a[1] + 0.4 * board])     # the second has the same means
  np.testing.assert_allclose(swift.pixel_distance(a, b), [0.4, 0.2], rtol=1e-5)


def test_perceptual_distance_is_that_of_directions():
  a = [toys.normal(i, 2, 3, 3, 4) for i in range(4)]
  wanted = np.zeros(2)
  b = [toys.normal(10 + i, 2, 3, 3, 4) for i in range(4)]
  for weight, x, y in zip(swift.DISTANCE_WEIGHTS, a, b, strict=True):
    x, y = (m / np.linalg.norm(m, axis=-1, keepdims=True) for m in (x, y))
    wanted += weight * np.mean(np.sum((x - y) ** 2, -1), (1, 2))
  np.testing.assert_allclose(swift.perceptual_distance(a, b), wanted, rtol=1e-4)
  np.testing.assert_allclose(swift.perceptual_distance(a, [3 * x for x in a]), 0, atol=1e-5)


@pytest.mark.slow
def test_shapes_of_a_branch():
  b = outputs()
  assert b.fake[0].shape == (ROWS, SIZE, SIZE, 3)
  assert 0 <= b.fake[0].min() < b.fake[0].max() <= 1
  for view in (b.d_real, b.d_wrong, b.d_fake):
    assert [x.shape for x in view.logits] == [(ROWS, 64), (ROWS, 49), (ROWS, 9), (ROWS, 1)]
    assert view.features.shape == view.sentence.shape == (ROWS, 6)
    assert view.regions.shape == (ROWS, 9, WORD)
  assert b.real_embedding.shape == b.fake_embedding.shape == (ROWS, 512)
  assert [x.shape for x in b.latent] == 2 * [(ROWS, NOISE)]


@pytest.mark.slow
def test_a_fake_is_compared_with_its_real_image_where_the_noise_is_read():
  b, image = outputs(), world()[3]['image']
  np.testing.assert_allclose(b.pixels, swift.pixel_distance(b.fake[0], image), rtol=1e-5)
  half = outputs(0.5)
  known = np.asarray(half.pixels) > 0
  assert 0 < known.sum() < ROWS
  np.testing.assert_array_equal(known, np.asarray(half.perceptual) > 0)
  np.testing.assert_allclose(half.fake[0][known], b.fake[0][known], atol=1e-5)
  np.testing.assert_allclose(half.pixels[known], 2 * b.pixels[known], rtol=1e-4)
  assert (np.abs(half.fake[0] - b.fake[0]).max((1, 2, 3))[~known] > 1e-3).all()


def test_a_fake_of_drawn_noise_does_not_depend_on_the_real_image():
  known = np.asarray(outputs(0.5).pixels) > 0
  before, after = outputs(0.5), outputs(0.5, image=1 - world()[3]['image'])
  moved = np.abs(before.fake[0] - after.fake[0]).max((1, 2, 3))
  assert (moved[~known] == 0).all() and (moved[known] > 1e-4).all()


@pytest.mark.parametrize('row', [0, 5])
def test_rows_meet_only_as_wrong_captions(row):
  sentence = np.array(world()[3]['sentence'])
  sentence[row] += 1
  before, after = outputs(), outputs(sentence=sentence)
  changed = lambda x, y: np.flatnonzero(np.abs(x - y).reshape(ROWS, -1).max(1) > 1e-6).tolist()
  assert changed(before.fake[0], after.fake[0]) == [row]
  for i in range(4):
    assert changed(before.d_real.logits[i], after.d_real.logits[i]) == [row]
    assert changed(before.d_wrong.logits[i], after.d_wrong.logits[i]) == [(row - 1) % ROWS]
  assert not changed(before.d_real.regions, after.d_real.regions)
  assert not changed(before.d_real.features, after.d_real.features)


def test_padding_has_no_influence():
  words = np.where(world()[3]['mask'][..., None], world()[3]['words'], 7).astype(np.float32)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
               outputs().fake, outputs(words=words).fake)


def test_a_place_fits_a_sequence_by_a_soft_maximum():
  h, sequence = toys.normal(4, 2, 2, 3, 5), toys.normal(5, 2, 4, 5)
  mask = np.array([[True, True, True, False], [True, False, False, False]])
  found = swift_heads.best_fit(h, sequence, mask)
  for row in range(2):
    products = h[row] @ sequence[row][mask[row]].T / np.sqrt(5)
    np.testing.assert_allclose(found[row], np.log(np.mean(np.exp(products), -1)), rtol=1e-4,
                               atol=1e-5)


@pytest.mark.slow
def test_heads_that_read_words_see_them_and_no_padding():
  text = toys.text(rows=4)
  maps = [toys.normal(i, 4, n, n, 3) for i, n in enumerate((4, 3, 2, 1))]
  heads = swift_heads.Heads(WORD, 4, features=6, read_words=True)
  params = toys.fill(jax.eval_shape(heads.init, jax.random.key(0), maps, text))
  plain = dataclasses.replace(heads, read_words=False)
  assert jax.tree.structure(params) == jax.tree.structure(
      jax.eval_shape(plain.init, jax.random.key(0), maps, text))     # so one can begin as the other
  logits = lambda words: heads.apply(params, maps, dataclasses.replace(text, words=words))[0].logits
  padded = np.where(text.mask[..., None], text.words, 7).astype(np.float32)
  jax.tree.map(np.testing.assert_array_equal, logits(text.words), logits(padded))
  other = np.array(text.words)
  other[0, 0] += 1
  for before, after in zip(logits(text.words), logits(other), strict=True):
    assert (before[0] != after[0]).all() and (before[1:] == after[1:]).all()


def test_heads_that_read_words_see_those_of_the_wrong_caption():
  params, stats, frozen, batch = world()
  heads = swift_heads.Heads(WORD, 4, features=6, read_words=True)
  reading = dataclasses.replace(networks(), heads=heads)
  maps = [toys.normal(i, ROWS, n, n, c) for i, (n, c) in enumerate(
      ((15, 64), (7, 128), (3, 256), (1, 512)))]
  text = encode(None, batch)

  def logits(words):
    outputs = swift.SwiftOutputs(batch, dataclasses.replace(text, words=words))
    outputs, _ = reading.discriminate(params, stats, frozen, (outputs, maps, maps))
    return outputs.d_real.logits[0], outputs.d_wrong.logits[0]

  other = np.array(text.words)
  other[5, 0] += 1
  for wanted, before, after in zip((5, 4), logits(text.words), logits(other), strict=True):
    assert np.flatnonzero(np.abs(before - after).max(-1) > 1e-6).tolist() == [wanted]


@pytest.mark.slow
def test_real_and_fake_are_augmented_alike():
  params, stats, frozen, batch = world()
  seen = []
  made = networks(augment=lambda rngs, x: seen.append(rngs) or x)
  made.generate(params, stats, frozen, batch, jax.random.split(jax.random.key(1), ROWS))
  np.testing.assert_array_equal(*map(jax.random.key_data, seen))


@pytest.mark.slow
def test_every_weight_of_the_generator_and_its_encoder_moves_the_distance():
  params, stats, frozen, batch = world()
  rngs = jax.random.split(jax.random.key(1), ROWS)

  @jax.jit
  def grad_norm_sq(g):
    def value(g):
      (b, *_), _ = networks().generate(params | {'g': g}, stats, frozen, batch, rngs)
      return jnp.mean(b.perceptual + b.pixels)
    return jax.grad(value)(g)

  for path, leaf in jax.tree_util.tree_leaves_with_path(grad_norm_sq(params['g'])):
    if 'key' not in jax.tree_util.keystr(path) or 'bias' not in jax.tree_util.keystr(path):
      assert np.abs(leaf).max() > 0, path      # a softmax does not see the bias of its keys


def test_noise_of_a_place_is_read_from_around_that_place():
  module = swift_generator.Encoder(32, places=True)
  sentence, image = toys.normal(0, 1, WORD), toys.numbers(1).random((1, 64, 64, 3), np.float32)
  params = toys.fill(jax.eval_shape(module.init, jax.random.key(0), image, sentence))
  changed = image.copy()
  changed[:, 60:, 60:] = 1 - changed[:, 60:, 60:]
  for before, after in zip(module.apply(params, image, sentence),
                           module.apply(params, changed, sentence), strict=True):
    assert before.shape == (1, 32)
    moved = np.abs(before - after).reshape(4, 4, 2).max(-1) > 1e-5
    assert moved[3, 3] and not moved[:2].any() and not moved[:, :2].any()


@pytest.mark.slow
def test_noise_of_a_place_reaches_the_image():
  text, z = toys.text(rows=1), toys.normal(2, 1, 32)
  module = swift_generator.SwiftGenerator((8, 6, 6, 4), places=True, last=4)
  params = toys.fill(jax.eval_shape(module.init, jax.random.key(0), text, z))
  params['params']['mapping_0']['kernel'][WORD:] = 0      # now only by its place
  moved = module.apply(params, text, z) - module.apply(params, text, z + np.eye(32)[:1])
  assert np.abs(moved).max() > 1e-3
  without = swift_generator.SwiftGenerator((8, 6, 6, 4))
  with_none = jax.eval_shape(without.init, jax.random.key(0), text, z)
  assert params['params'].keys() - with_none['params'].keys() == {'places'}


@pytest.mark.slow
def test_refining_blocks_begin_as_the_identity_and_read_the_condition():
  text, z = toys.text(rows=2), toys.normal(2, 2, NOISE)
  plain, refined = (swift_generator.SwiftGenerator(WIDTHS, refine=n, last=4) for n in (0, 2))
  params = refined.init(jax.random.key(0), text, z)
  known = plain.init(jax.random.key(0), text, z)['params'].keys()
  blocks = {name for name in params['params'] if name not in known}
  assert blocks == {f'refine_{i}_{j}' for i in (0, 1) for j in (0, 1)}
  rest = {'params': {name: params['params'][name] for name in known}}
  np.testing.assert_array_equal(refined.apply(params, text, z), plain.apply(rest, text, z))

  x, condition = toys.normal(1, 2, 4, 4, 3), toys.normal(3, 2, 5)
  block = swift_generator.SwiftBlock()
  params = toys.fill(jax.eval_shape(block.init, jax.random.key(0), x, condition))
  moved = block.apply(params, x, condition) - block.apply(params, x, condition[::-1])
  assert np.abs(moved).min((1, 2, 3)).all()


@pytest.mark.slow
def test_attention_blocks_begin_as_the_identity():
  text, z = toys.text(rows=2), toys.normal(2, 2, NOISE)
  plain, attending = (swift_generator.SwiftGenerator(WIDTHS, attention=n, last=4) for n in (0, 2))
  params = attending.init(jax.random.key(0), text, z)
  known = plain.init(jax.random.key(0), text, z)['params'].keys()
  assert params['params'].keys() - known == {f'attention_{i}_{j}' for i in (4, 8) for j in (0, 1)}
  rest = {'params': {name: params['params'][name] for name in known}}
  np.testing.assert_array_equal(attending.apply(params, text, z), plain.apply(rest, text, z))


def test_fine_blocks_begin_as_the_identity_and_then_read_the_words():
  text, z = toys.text(rows=2), toys.normal(2, 2, NOISE)
  plain, fine = (swift_generator.SwiftGenerator(WIDTHS, fine=n, last=4) for n in (0, 2))
  params = fine.init(jax.random.key(0), text, z)['params']
  known = plain.init(jax.random.key(0), text, z)['params'].keys()
  assert params.keys() - known == {'fine_0', 'fine_1'}
  rest = {name: params[name] for name in known}
  np.testing.assert_array_equal(fine.apply({'params': params}, text, z),
                                plain.apply({'params': rest}, text, z))

  x, condition = toys.normal(1, 2, 4, 4, 3), toys.normal(3, 2, 5)
  module = swift_generator.FineBlock(6)
  params = toys.fill(jax.eval_shape(module.init, jax.random.key(0), x, condition, text))
  read = lambda words: module.apply(params, x, condition, dataclasses.replace(text, words=words))
  before = read(text.words)
  assert before.shape == x.shape
  np.testing.assert_array_equal(
      before, read(np.where(text.mask[..., None], text.words, 7).astype(np.float32)))
  other = np.array(text.words)
  other[0, 0] += 1
  moved = np.abs(before - read(other)).max(-1)
  assert (moved[0] > 0).all() and not moved[1].any()


def test_in_an_attention_block_places_see_one_another_the_words_and_where_they_are():
  text, x, condition = toys.text(rows=1), toys.normal(1, 1, 4, 4, 3), toys.normal(3, 1, 5)
  module = swift_generator.AttentionBlock()
  params = toys.fill(jax.eval_shape(module.init, jax.random.key(0), x, condition, text))
  block = functools.partial(module.apply, params)
  before = block(x, condition, text)
  changed = x.copy()
  changed[:, 3, 3] *= -1
  assert np.abs(block(changed, condition, text) - before).max(-1).min() > 1e-5
  other = dataclasses.replace(text, words=text.words[:, ::-1])
  assert np.abs(block(x, condition, other) - before).max(-1).min() > 1e-5
  turned = block(x[:, ::-1], condition, text)[:, ::-1]
  assert np.abs(turned - before).max(-1).min() > 1e-5


def test_samples_are_the_generator_s_alone():
  params, stats, _, batch = world()
  z = toys.normal(2, ROWS, NOISE)
  of_training = lambda frozen, batch: pytest.fail('a table of training captions was asked')
  made = dataclasses.replace(networks(), encode=of_training)
  images = jax.jit(made.sample)(params['g'], stats['g'], {}, batch, z)
  wanted = made.generator.apply({'params': params['g']['generator']}, encode({}, batch), z)
  np.testing.assert_allclose(images, wanted, atol=1e-5)
  assert images.shape == (ROWS, SIZE, SIZE, 3) and images.dtype == jnp.float32


@pytest.mark.slow
def test_maps_of_enlarged_images():
  variables = toys.fill(squeezenet.maps_variables_spec(), 1)
  images = toys.numbers(1).random((2, 64, 64, 3)).astype(np.float32)
  large = jax.image.resize(images, (2, 128, 128, 3), 'linear')
  wanted, found = squeezenet.maps(variables, large), swift.enlarged_maps(variables, images, 2)
  assert [m.shape for m in found] == [(2, 31, 31, 64), (2, 15, 15, 128), (2, 15, 15, 256),
                                      (2, 7, 7, 512)]
  for i in (2, 3):
    np.testing.assert_allclose(found[i], wanted[i], rtol=1e-5, atol=1e-5)
  means = np.asarray(wanted[0])[:, :62, :62].reshape(2, 31, 2, 31, 2, 64).mean((2, 4))
  np.testing.assert_allclose(found[0], means, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_maps_are_those_of_the_whole_network():
  variables = toys.fill(squeezenet.maps_variables_spec(), 1)
  images = toys.numbers(1).random((2, 64, 64, 3)).astype(np.float32)
  found = squeezenet.maps(variables, images)
  assert [m.shape for m in found] == [(2, 31, 31, 64), (2, 15, 15, 128), (2, 7, 7, 256),
                                      (2, 3, 3, 512)]
  regions, pool = squeezenet.SqueezeNetBackbone().apply(variables, squeezenet.scaled(255 * images))
  np.testing.assert_allclose(found[2] * squeezenet.MAPS_RMS[2], regions, rtol=1e-5)
  np.testing.assert_allclose(found[3].mean((1, 2)) * squeezenet.MAPS_RMS[3], pool, rtol=1e-4)
