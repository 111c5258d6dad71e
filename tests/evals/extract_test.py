"""Networks over many images: the same answers whatever the batches, devices and order."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmc_jax.evals import extract, image_sets
from xmc_jax.evals.extract import Collector, Painter, Reader, as_saved
from xmc_jax.training.mesh import make_mesh
from xmc_jax.types import UserError

WEIGHTS = np.float32(np.random.default_rng(3).normal(size=(8 * 8 * 3, 5)))


def network(variables, images):
  return {'codes': jnp.tanh(images.reshape(len(images), -1) / 255. @ variables)}


DIRECT = Reader('direct', WEIGHTS, network)
PREPARED = Reader('prepared', WEIGHTS, network, lambda images: images[:, ::-1].copy())


@pytest.fixture
def images():
  return np.random.default_rng(0).integers(0, 256, (37, 8, 8, 3), np.uint8)


def of(images, devices=1, readers=(DIRECT, PREPARED)):
  return Collector(readers, make_mesh(jax.devices()[:devices]))(image_sets.Stack(images, 'noise'))


def test_answers_are_those_of_the_network_row_by_row(images):
  found = of(images)
  expected = np.tanh(images.reshape(37, -1) / 255. @ WEIGHTS)
  np.testing.assert_allclose(found['direct']['codes'], expected, atol=1e-5)
  upside_down = np.tanh(images[:, ::-1].reshape(37, -1) / 255. @ WEIGHTS)
  np.testing.assert_allclose(found['prepared']['codes'], upside_down, atol=1e-5)


@pytest.mark.parametrize('devices', [2, 8])
def test_any_number_of_devices_gives_the_same_to_the_bit(images, devices):
  expected, found = of(images), of(images, devices)
  for name in ('direct', 'prepared'):
    np.testing.assert_array_equal(found[name]['codes'], expected[name]['codes'])


@pytest.mark.parametrize('rows', [7, 64])
def test_batches_of_another_size_give_the_same_to_rounding(images, monkeypatch, rows):
  expected = of(images)
  monkeypatch.setitem(extract.ROWS, 'cpu', rows)
  found = of(images)
  for name in ('direct', 'prepared'):
    np.testing.assert_allclose(found[name]['codes'], expected[name]['codes'], atol=1e-5)


def test_order_of_the_images_is_the_order_of_the_answers(images):
  order = np.random.default_rng(1).permutation(37)
  np.testing.assert_allclose(of(images[order])['direct']['codes'],
                             of(images)['direct']['codes'][order], atol=1e-5)


def paint(weights, inputs):
  return inputs['z'][:, :, None, None] * weights + jnp.zeros((1, 8, 8, 3))


SHOW = Reader('images', {}, lambda _, x: x)


def draw(z, weights=1.0, readers=(SHOW,)):
  collector = Collector(readers, make_mesh(jax.devices()[:2]))
  return collector(Painter('drawn', paint, jnp.float32(weights), {'z': z}))


def test_drawn_images_are_read_as_if_they_had_been_saved():
  z = np.float32(np.linspace(-0.2, 1.2, 21))[:, None]
  z = np.repeat(z, 8, 1)
  found = draw(z)['images']
  assert found.dtype == np.uint8 and found.shape == (21, 8, 8, 3)
  np.testing.assert_array_equal(found[:, 0, 0, 0], np.round(np.clip(z[:, 0], 0, 1) * 255))


def test_drawn_images_meet_the_same_network_as_images_from_files():
  z = np.float32(np.random.default_rng(2).random((21, 8)))
  readers = (DIRECT, PREPARED, SHOW)
  drawn = draw(z, readers=readers)
  again = of(drawn['images'])
  for name in ('direct', 'prepared'):
    np.testing.assert_allclose(drawn[name]['codes'], again[name]['codes'], atol=1e-5)


def test_generator_that_draws_no_numbers_is_refused():
  z = np.ones((21, 8), np.float32)
  z[13, 2] = np.nan
  with pytest.raises(UserError, match='NaN or infinity'):
    draw(z)
  z[13, 2] = np.inf
  with pytest.raises(UserError, match='NaN or infinity'):
    draw(z)


def test_as_saved_rounds_and_clips():
  shown = as_saved(jnp.float32([-1, 0, 0.5 / 255 - 1e-4, 0.5 / 255 + 1e-4, 1, 2, np.nan]))
  np.testing.assert_array_equal(shown, [0, 0, 0, 1, 255, 255, 0])
