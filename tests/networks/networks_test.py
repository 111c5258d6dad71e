"""Generator and discriminator against the paper's networks in numpy, folded against plain."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy_xmc
import pytest
import toys

from xmc_jax.layers.impl import FAST, REFERENCE
from xmc_jax.layers.spectral import spectral_normalize
from xmc_jax.networks.base import Text
from xmc_jax.networks.xmc_gan import XmcDiscriminator, XmcGenerator

pytestmark = pytest.mark.usefixtures('strict')

ROWS, Z = 4, 5
TEXT = toys.text(rows=ROWS)
NOISE = toys.normal(3, ROWS, Z)
WIDTH = {32: 4, 64: 2}
SIZES = pytest.mark.parametrize('size', WIDTH)


@functools.cache
def generator_variables(size):
  init = lambda: XmcGenerator(size, WIDTH[size], 7).init(jax.random.key(0), TEXT, NOISE, True)
  return toys.fill(jax.eval_shape(init), seed=1)


@functools.cache
def discriminator_variables(size):
  """Parameters, and vectors of the spectral norm for every kernel."""
  init = lambda: XmcDiscriminator(size, WIDTH[size]).init(
    jax.random.key(0), jnp.zeros(images(size).shape), TEXT
  )['params']
  params = toys.fill(jax.eval_shape(init), seed=2)
  vectors = jax.tree_util.tree_map_with_path(
      lambda path, x: toys.normal(x.size, x.shape[-1]) if path[-1].key == 'kernel' else None,
      params)
  unit = lambda tree: {k: unit(v) if isinstance(v, dict) else v / np.linalg.norm(v)
                       for k, v in tree.items() if v is not None}
  return params, unit(vectors)


def images(size):
  return toys.numbers(5).random((ROWS, size, size, 3)).astype(np.float32)


def generate(size, params, z=NOISE, text=TEXT, **options):
  module = XmcGenerator(size, WIDTH[size], 7, **options)
  stats = generator_variables(size)['batch_stats']
  run = lambda params, z, words, mask, sentence: module.apply(
      {'params': params, 'batch_stats': stats}, Text(words, mask, sentence), z, True,
      mutable=['batch_stats'])[0]
  return jax.jit(run)(params, z, text.words, text.mask, text.sentence)


def judge(size, params, image, text=TEXT, **options):
  module = XmcDiscriminator(size, WIDTH[size], **options)

  def run(params, image, words, mask, sentence):
    views = module.apply({'params': params}, image, Text(words, mask, sentence))
    return views.logits[0], views.features, views.regions, views.sentence
  return jax.jit(run)(params, image, text.words, text.mask, text.sentence)


@SIZES
@pytest.mark.parametrize('impl', [FAST, REFERENCE])
def test_generator_is_the_papers(size, impl):
  params = generator_variables(size)['params']
  slow = numpy_xmc.generator(params, size, TEXT, NOISE)
  assert slow.std() > 0.1                    # not saturated by tanh: there is something to compare
  np.testing.assert_allclose(generate(size, params, impl=impl), slow, atol=1e-4)


@SIZES
@pytest.mark.parametrize('impl', [FAST, REFERENCE])
def test_discriminator_is_the_papers(size, impl):
  params, vectors = discriminator_variables(size)
  normalized = jax.jit(spectral_normalize)(params, vectors)[0]
  slow = numpy_xmc.discriminator(numpy_xmc.spectral(params, vectors), size, images(size), TEXT)
  for ours, theirs in zip(judge(size, normalized, images(size), impl=impl), slow):
    assert ours.shape == theirs.shape and theirs.std() > 1e-3
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())


def distance(a, b):
  """Largest difference of two trees, relative to its leaf's largest value.

  Leaves a thousand times smaller than the tree's largest are noise: a bias in front of a
  normalization has the gradient zero.
  """
  tops = [float(np.abs(y).max()) for y in jax.tree.leaves(b)]
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), tops)
  return max(float(np.abs(x - y).max()) / max(top, 1e-3 * max(tops)) for x, y, top in pairs)


@pytest.mark.slow
def test_gradients_of_the_folded_generator_are_the_plain_ones():
  params, weights = generator_variables(32)['params'], toys.normal(9, ROWS, 32, 32, 3)

  def grads(impl):
    value = lambda params, z: jnp.sum(weights * generate(32, params, z, impl=impl))
    return jax.jit(jax.grad(value, (0, 1)))(params, jnp.array(NOISE))
  assert distance(grads(FAST), grads(REFERENCE)) < 1e-3


@pytest.mark.slow
def test_gradients_of_the_folded_discriminator_are_the_plain_ones():
  params, vectors = discriminator_variables(32)

  def grads(impl):
    def value(params, image):
      out = judge(32, spectral_normalize(params, vectors)[0], image, impl=impl)
      return sum(jnp.sum(jnp.sin(10 * x)) for x in out)
    return jax.jit(jax.grad(value, (0, 1)))(params, jnp.array(images(32)))
  assert distance(grads(FAST), grads(REFERENCE)) < 1e-3


@pytest.mark.slow
def test_bfloat16_is_close_to_float32():
  params = generator_variables(32)['params']
  wide, small = generate(32, params), generate(32, params, dtype=jnp.bfloat16)
  assert small.dtype == jnp.float32 and 0 < np.abs(wide - small).mean() < 0.02
  params, vectors = discriminator_variables(32)
  normalized = spectral_normalize(params, vectors)[0]
  pairs = list(zip(judge(32, normalized, images(32)),
                   judge(32, normalized, images(32), dtype=jnp.bfloat16)))
  assert [b.dtype for _, b in pairs] == [jnp.float32, jnp.float32, jnp.bfloat16, jnp.float32]
  assert all(np.abs(a - b.astype(jnp.float32)).max() < 0.05 * np.abs(a).max() for a, b in pairs)


def test_padding_words_change_neither_network():
  other = Text(np.where(TEXT.mask[..., None], TEXT.words, 9.0).astype(np.float32), TEXT.mask,
               TEXT.sentence)
  params = generator_variables(32)['params']
  np.testing.assert_array_equal(generate(32, params), generate(32, params, text=other))
  params = discriminator_variables(32)[0]
  for a, b in zip(judge(32, params, images(32)), judge(32, params, images(32), other)):
    np.testing.assert_array_equal(a, b)


def test_noise_words_mask_and_sentence_all_change_the_image():
  params = generator_variables(32)['params']
  before = generate(32, params)
  changes = [dict(z=-NOISE),
             dict(text=Text(-TEXT.words, TEXT.mask, TEXT.sentence)),
             dict(text=Text(TEXT.words, np.ones_like(TEXT.mask), TEXT.sentence)),
             dict(text=Text(TEXT.words, TEXT.mask, -TEXT.sentence))]
  for change in changes:
    assert np.abs(generate(32, params, **change) - before).max() > 0.01
