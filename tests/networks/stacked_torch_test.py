"""The stacked networks are torch's of the same weights, to rounding. Needs torch."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.impl import FAST, REFERENCE
from xmc_jax.layers.spectral import init_vectors, spectral_normalize
from xmc_jax.networks import attngan, dm_gan

torch = pytest.importorskip('torch')
twin = pytest.importorskip('torch_stacked')

ROWS, NOISE, CONDITION = 4, 5, 3
FAMILIES = {'attngan': (attngan, twin.word_attention, twin.normalized_block),
            'dm_gan': (dm_gan, twin.dynamic_memory, twin.plain_block)}
every_family = pytest.mark.parametrize('family', FAMILIES)


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('layer, theirs', [
    (attngan.WordAttention(), twin.word_attention), (dm_gan.DynamicMemory(), twin.dynamic_memory)])
def test_reading_of_words(layer, theirs):
  text, x = toys.text(rows=ROWS), toys.normal(3, ROWS, 8, 8, 6)
  params = toys.fill(jax.eval_shape(
      lambda: layer.init(jax.random.key(0), x, text.words, text.mask)))['params']
  found = jax.jit(lambda p: layer.apply({'params': p}, x, text.words, text.mask))(params)
  with torch.no_grad():
    wanted = theirs(twin.to_nchw(x), twin.tensor(text.words), torch.from_numpy(text.mask), params)
  assert toys.spread(found, twin.to_nhwc(wanted)) < 1e-5
  assert toys.spread(found[..., 6:], x) > 0.1


@every_family
@pytest.mark.parametrize('impl', [FAST, REFERENCE])
@pytest.mark.parametrize('size', [32, 64])
def test_generator(family, size, impl):
  module, read, _ = FAMILIES[family]
  generator = module.generator(size, 4, 2, noise_features=NOISE, condition_features=CONDITION,
                               impl=impl)
  text, z = toys.text(rows=ROWS), toys.normal(5, ROWS, NOISE + CONDITION)
  variables = toys.fill(jax.eval_shape(
      lambda: generator.init(jax.random.key(0), text, z, True)))
  run = jax.jit(lambda v, train: generator.apply(v, text, z, train, mutable=['batch_stats'])[0],
                static_argnums=1)
  for train in (True, False):
    images, latent = run(variables, train)
    stats = None if train else variables['batch_stats']
    with torch.no_grad():
      expected, *moments = twin.Generator(read, variables['params'], stats)(
          text.words, text.mask, text.sentence, z, NOISE)
    jax.tree.map(close, list(images), expected)
    jax.tree.map(close, list(latent), moments)
    assert images[-1].std() > 0.01


@every_family
@pytest.mark.parametrize('size', [32, 128, 256])
def test_discriminator(family, size):
  module, _, block = FAMILIES[family]
  discriminator, sentence = module.discriminator(size, 2), toys.text(rows=ROWS).sentence
  images = tuple(toys.numbers(side).random((ROWS, side, side, 3)).astype(np.float32)
                 for side in (size // 4, size // 2, size))
  variables = toys.fill(jax.eval_shape(
      lambda: discriminator.init(jax.random.key(0), images, sentence)))
  params = variables['params']
  if family == 'dm_gan':
    kernels = dm_gan.spectral(params)
    vectors = toys.fill({'spectral': jax.eval_shape(
        functools.partial(init_vectors, jax.random.key(0)), kernels)})['spectral']
    variables = {'params': spectral_normalize(params, vectors, epsilon=1e-24)[0]}
    params = twin.spectrally_normalized(params, vectors)
    jax.tree.map(close, variables['params'], params)
  (view,), _ = jax.jit(lambda v: discriminator.apply(v, images, jnp.array(sentence),
                                              mutable=['batch_stats']))(variables)
  for i, image in enumerate(images):
    with torch.no_grad():
      alone, paired = twin.discriminator(image, sentence, params[f'scale_{i}'], block)
    close(view.unconditional[i], alone)
    close(view.logits[i], paired)
    assert np.std(alone) > 1e-3 and np.std(paired) > 1e-3
