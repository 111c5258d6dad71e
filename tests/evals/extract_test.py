"""Feature extraction: the same features whatever the batches, devices and order."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.evals import extract
from xmc_jax.evals.extract import FeatureCollector, FeatureExtractor, GeneratedImages, to_uint8
from xmc_jax.training.mesh import make_mesh
from xmc_jax.types import UserError

WEIGHTS = np.float32(np.random.default_rng(3).normal(size=(8 * 8 * 3, 5)))


def network(variables, images):
  return {'embeddings': jnp.tanh(images.reshape(len(images), -1) / 255. @ variables)}


DIRECT = FeatureExtractor('direct', WEIGHTS, network)
PREPROCESSED = FeatureExtractor('preprocessed', WEIGHTS, network,
                                lambda images: images[:, ::-1].copy())


@pytest.fixture
def images():
  return np.random.default_rng(0).integers(0, 256, (37, 8, 8, 3), np.uint8)


def of(images, devices=1, extractors=(DIRECT, PREPROCESSED)):
  collect = FeatureCollector(extractors, make_mesh(jax.devices()[:devices]))
  return collect(toys.ArrayImages(images, 'noise'))


def test_features_are_those_of_the_network_image_by_image(images):
  found = of(images)
  expected = np.tanh(images.reshape(37, -1) / 255. @ WEIGHTS)
  np.testing.assert_allclose(found['direct']['embeddings'], expected, atol=1e-5)
  upside_down = np.tanh(images[:, ::-1].reshape(37, -1) / 255. @ WEIGHTS)
  np.testing.assert_allclose(found['preprocessed']['embeddings'], upside_down, atol=1e-5)


@pytest.mark.parametrize('devices', [2, 8])
def test_any_number_of_devices_gives_the_same_bits(images, devices):
  expected, found = of(images), of(images, devices)
  for name in ('direct', 'preprocessed'):
    np.testing.assert_array_equal(found[name]['embeddings'], expected[name]['embeddings'])


@pytest.mark.parametrize('rows', [7, 64])
def test_batches_of_another_size_give_the_same_up_to_rounding(images, monkeypatch, rows):
  expected = of(images)
  monkeypatch.setitem(extract.BATCH_SIZES, 'cpu', rows)
  found = of(images)
  for name in ('direct', 'preprocessed'):
    np.testing.assert_allclose(found[name]['embeddings'], expected[name]['embeddings'], atol=1e-5)


def test_features_are_in_the_order_of_the_images(images):
  order = np.random.default_rng(1).permutation(37)
  np.testing.assert_allclose(of(images[order])['direct']['embeddings'],
                             of(images)['direct']['embeddings'][order], atol=1e-5)


def generator(weights, inputs):
  return inputs['z'][:, :, None, None] * weights + jnp.zeros((1, 8, 8, 3))


SHOW = FeatureExtractor('images', {}, lambda _, x: x)


def generate(z, weights=1.0, extractors=(SHOW,)):
  collect = FeatureCollector(extractors, make_mesh(jax.devices()[:2]))
  return collect(GeneratedImages('generated', generator, jnp.float32(weights), {'z': z}))


def test_generated_images_are_rounded_as_if_saved():
  z = np.float32(np.linspace(-0.2, 1.2, 21))[:, None]
  z = np.repeat(z, 8, 1)
  found = generate(z)['images']
  assert found.dtype == np.uint8 and found.shape == (21, 8, 8, 3)
  np.testing.assert_array_equal(found[:, 0, 0, 0], np.round(np.clip(z[:, 0], 0, 1) * 255))


def test_generated_images_have_the_features_of_the_same_images_from_files():
  z = np.float32(np.random.default_rng(2).random((21, 8)))
  generated = generate(z, extractors=(DIRECT, PREPROCESSED, SHOW))
  again = of(generated['images'])
  for name in ('direct', 'preprocessed'):
    np.testing.assert_allclose(generated[name]['embeddings'], again[name]['embeddings'], atol=1e-5)


def test_a_generator_that_gives_nan_or_infinity_is_refused():
  z = np.ones((21, 8), np.float32)
  z[13, 2] = np.nan
  with pytest.raises(UserError, match='NaN or infinity'):
    generate(z)
  z[13, 2] = np.inf
  with pytest.raises(UserError, match='NaN or infinity'):
    generate(z)


def test_to_uint8_rounds_and_clips():
  shown = to_uint8(jnp.float32([-1, 0, 0.5 / 255 - 1e-4, 0.5 / 255 + 1e-4, 1, 2, np.nan]))
  np.testing.assert_array_equal(shown, [0, 0, 0, 1, 255, 255, 0])
