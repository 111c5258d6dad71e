"""The search for noise, with a generator and a score of closed form."""
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from xmc_jax.sampler import Sampler
from xmc_jax.training.mesh import make_mesh
from xmc_jax.types import UserError

FEATURES = 12


@dataclasses.dataclass(frozen=True)
class Linear:
  """The image is the noise, and its score the product with the tokens of the caption."""
  replaced = None

  def sample(self, params, stats, frozen, batch, z):
    return z.reshape(-1, 2, 2, 3)

  def match(self, params, stats, frozen, batch, images):
    return params['sign'] * (images.reshape(len(images), -1) * batch['tokens']).sum(-1)


@pytest.fixture(scope='module')
def draw():
  sampler = Sampler(Linear(), make_mesh(), batch=8)
  networks = {'params': {}, 'stats': {}, 'frozen': {}}

  def draw(tokens, z, steps, sign=1.0, d=True):
    d = {'d': {'params': {'sign': jnp.float32(sign)}, 'stats': {}}} if d else {}
    inputs = {'tokens': tokens, 'mask': np.ones(tokens.shape, bool), 'z': z}
    found = sampler(networks | d, [str(i) for i in range(len(z))], inputs, steps)
    return (np.array(x) for x in zip(*found))
  return draw


@pytest.fixture
def inputs():
  rng = np.random.default_rng(0)
  return [rng.normal(size=(20, FEATURES)).astype(np.float32) for _ in range(2)]


def length(x):
  return np.linalg.norm(x.reshape(len(x), -1), axis=-1, keepdims=True)


def test_without_steps_it_is_the_image_of_the_noise_and_its_score(draw, inputs):
  tokens, z = inputs
  images, scores = draw(tokens, z, 0)
  np.testing.assert_array_equal(images.reshape(z.shape), z)
  np.testing.assert_allclose(scores, (tokens * z).sum(-1), rtol=1e-5, atol=1e-5)
  assert (np.array(list(draw(tokens, z, 0, d=False))[1]) == 0).all()


@pytest.mark.parametrize('sign', [1.0, -1.0])
def test_noise_keeps_its_length_and_turns_to_the_best_score(draw, inputs, sign):
  tokens, z = inputs
  first, few, many = (list(draw(tokens, z, steps, sign)) for steps in (0, 4, 300))
  for images, _ in (few, many):
    np.testing.assert_allclose(length(images), length(z), rtol=1e-5)
  assert (first[1] < few[1]).all() and (few[1] < many[1]).all()
  np.testing.assert_allclose(many[1], (length(z) * length(tokens))[:, 0], rtol=1e-2)


def test_a_step_moves_the_noise_by_its_share_of_the_length(draw, inputs):
  tokens, z = inputs
  images, _ = draw(tokens, z, 1)
  moved = z + 0.02 * length(z) * tokens / length(tokens)
  np.testing.assert_allclose(images.reshape(z.shape), moved * length(z) / length(moved), rtol=1e-4,
                             atol=1e-5)


def test_the_next_step_keeps_a_share_of_the_direction_of_the_one_before(draw, inputs):
  tokens, z = inputs
  images, _ = draw(tokens, z, 2)
  direction, wanted = tokens / length(tokens), z
  for velocity in (1.0, 1.0 + 0.7):
    moved = wanted + 0.02 * length(z) * velocity * direction
    wanted = moved * length(z) / length(moved)
  np.testing.assert_allclose(images.reshape(z.shape), wanted, rtol=1e-4, atol=1e-5)


def test_an_image_does_not_depend_on_the_others(draw, inputs):
  tokens, z = inputs
  whole, _ = draw(tokens, z, 5)
  alone, _ = draw(tokens[13:14], z[13:14], 5)
  np.testing.assert_allclose(alone[0], whole[13], rtol=1e-6)


def test_an_image_that_is_not_finite_is_refused(draw, inputs):
  tokens, z = inputs
  z[9] = np.inf
  with pytest.raises(UserError, match="for the caption '9'"):
    list(draw(tokens, z, 0))
