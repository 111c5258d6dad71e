"""Differentiable augmentation: shapes, ranges, one draw a row, gradients."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers import augment
from xmc_jax.types import UserError

pytestmark = pytest.mark.usefixtures('strict')

IMAGES = jnp.array(toys.numbers(0).random((6, 16, 16, 3)).astype(np.float32))
ALL = ('color', 'translation', 'cutout')
POLICIES = pytest.mark.parametrize('name', ALL)


def run(name, seed=0, x=IMAGES):
  rngs = jax.random.split(jax.random.key(seed), len(x))
  return augment.augmentation([name])(rngs, x)


@POLICIES
def test_shape_stays_and_the_same_rng_draws_the_same(name):
  assert run(name).shape == IMAGES.shape
  np.testing.assert_array_equal(run(name), run(name))
  assert not np.array_equal(run(name), run(name, seed=1))


@POLICIES
def test_each_row_has_its_own_draw(name):
  same = jnp.broadcast_to(IMAGES[:1], (32, *IMAGES.shape[1:]))
  out = np.asarray(run(name, x=same))
  assert len(np.unique(out.reshape(32, -1), axis=0)) > 8


@POLICIES
def test_a_row_does_not_see_the_others(name):
  other = IMAGES.at[1:].set(1 - IMAGES[1:])
  np.testing.assert_array_equal(run(name)[0], run(name, x=other)[0])
  assert not np.array_equal(run(name)[1], run(name, x=other)[1])


@pytest.mark.parametrize('name', ['translation', 'cutout'])
def test_range_stays(name):
  out = run(name)
  assert out.min() >= 0 and out.max() <= 1


def test_translation_moves_a_image_by_up_to_an_eighth_and_repeats_the_border():
  same = jnp.broadcast_to(IMAGES[:1], (64, 16, 16, 3))
  seen = set()
  padded = np.pad(IMAGES[0], ((2, 2), (2, 2), (0, 0)), mode='edge')
  windows = {(i, j): padded[i:i + 16, j:j + 16] for i in range(5) for j in range(5)}
  for row in np.asarray(run('translation', x=same)):
    places = [place for place, window in windows.items() if np.array_equal(row, window)]
    assert len(places) == 1
    seen |= set(places)
  assert {i for i, _ in seen} == {j for _, j in seen} == set(range(5))


def test_cutout_greys_half_the_side_and_nothing_else():
  out = np.asarray(run('cutout', x=jnp.broadcast_to(IMAGES[:1], (64, 16, 16, 3))))
  cut = (out == 0.5).all(-1)
  np.testing.assert_array_equal(out[~cut], np.broadcast_to(IMAGES[0], out.shape)[~cut])
  heights, widths = cut.any(2).sum(1), cut.any(1).sum(1)
  np.testing.assert_array_equal(cut.sum((1, 2)), heights * widths)        # a rectangle each
  assert heights.max() == widths.max() == 8 and heights.min() >= 4        # half may lie outside


def test_color_moves_brightness_saturation_and_contrast_within_bounds():
  grey = jnp.full((64, 4, 4, 3), 0.25)            # no colour, no contrast: brightness alone remains
  shift = run('color', x=grey) - grey
  np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1, :1, :1], shift.shape), atol=1e-6)
  assert -0.25 <= shift.min() < -0.2 and 0.2 < shift.max() <= 0.25   # +-0.5 of [-1, 1]
  # Pixels of one mean and opposite grey levels: their distance shows the contrast, 0.5 to 1.5.
  steps = grey.at[:, ::2].set(0.75)
  out = run('color', x=steps)
  contrast = (out[:, 0, 0, 0] - out[:, 1, 0, 0]) / 0.5
  assert 0.5 <= contrast.min() < 0.7 and 1.3 < contrast.max() <= 1.5
  # Two channels that differ: their distance shows saturation times contrast, 0 to 3.
  red = grey.at[..., 0].set(0.75)
  saturation = (run('color', x=red)[:, 0, 0] @ jnp.array([1.0, -1, 0])) / 0.5 / contrast
  assert 0 <= saturation.min() < 0.3 and 1.7 < saturation.max() <= 2.0001


@POLICIES
def test_gradients_flow_to_every_image(name):
  weights = jnp.array(toys.normal(1, *IMAGES.shape))
  grad = jax.grad(lambda x: jnp.sum(weights * run(name, x=x)))(IMAGES)
  assert np.isfinite(grad).all() and (jnp.abs(grad).sum((1, 2, 3)) > 0).all()


def test_policies_run_in_order_with_keys_of_their_own():
  keys = jax.random.split(jax.random.key(0), len(IMAGES))
  both = augment.augmentation(('translation', 'cutout'))(keys, IMAGES)
  for i, key in enumerate(keys):
    first, second = jax.random.split(key)
    by_hand = augment.cutout(second, augment.translation(first, IMAGES[i]))
    np.testing.assert_array_equal(both[i], by_hand)


def test_no_policy_is_the_identity():
  keys = jax.random.split(jax.random.key(0), len(IMAGES))
  np.testing.assert_array_equal(augment.augmentation(())(keys, IMAGES), IMAGES)


def test_unknown_policy_is_the_users_mistake():
  with pytest.raises(UserError, match='--config.model.augment=colour: .* choose from color'):
    augment.augmentation(('translation', 'colour'))
