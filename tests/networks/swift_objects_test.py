"""Objects that are drawn where a layout has them."""
import jax
import jax.numpy as jnp
import numpy as np

from xmc_jax.networks import swift_objects
from xmc_jax.networks.base import Text
from xmc_jax.networks.swift_objects import ObjectCodes, ObjectMap

LAYOUT = np.array([[[2, 0.25, 0.5, 0.3], [1, 0.6, 0.4, 0.25], [0, 0, 0, 0]],
                   [[3, 0.5, 0.75, 0.4], [0, 0, 0, 0], [0, 0, 0, 0]]], np.float32)


def drawing(side=16, features=5):
  """(objects, codes) -> what is drawn on an even map [2, side, side, features]; and codes."""
  codes = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 7)), jnp.float32)
  ground = jnp.broadcast_to(jnp.arange(features, dtype=jnp.float32), (2, side, side, features))
  net = ObjectMap(depth=2, width=8)
  params = net.init(jax.random.key(0), ground, LAYOUT, codes)
  return lambda objects, codes: net.apply(params, ground, objects, codes), codes


def test_coverage_is_that_of_numpy():
  shares, v, u = swift_objects.coverage(jnp.asarray(LAYOUT), 8)
  expected = np.zeros((2, 8, 8, 3))
  for b in range(2):
    for i in range(8):
      for j in range(8):
        weights = []
        for k, (kind, y, x, side) in enumerate(LAYOUT[b]):
          a, c = ((i + 0.5) / 8 - y) / (side / 2 or 1), ((j + 0.5) / 8 - x) / (side / 2 or 1)
          weights.append(np.exp(8 - 4 * (a * a + c * c)) if kind else 0)
          if kind:
            np.testing.assert_allclose([v[b, i, 0, k], u[b, 0, j, k]], [a, c], rtol=1e-4, atol=1e-5)
        expected[b, i, j] = np.array(weights) / (1 + sum(weights))
  np.testing.assert_allclose(shares, expected, rtol=1e-4, atol=1e-6)


def test_an_object_is_the_same_wherever_it_stands():
  draw, codes = drawing()
  alone = LAYOUT.copy()
  alone[:, 1:] = 0
  moved = alone.copy()
  moved[:, 0, 1:3] += [[3 / 16, -2 / 16], [-2 / 16, -3 / 16]]      # by whole pixels of the map
  here, there = (draw(x, codes) for x in (alone, moved))
  np.testing.assert_allclose(there[0, 3:, :14], here[0, :13, 2:], atol=1e-5)
  np.testing.assert_allclose(there[1, :14, :13], here[1, 2:, 3:], atol=1e-5)
  ground = np.arange(5)
  assert np.abs(here - ground).max() > 0.1
  np.testing.assert_allclose(here[0, 12:], np.broadcast_to(ground, (4, 16, 5)), atol=1e-4)


def test_rows_without_an_object_have_no_influence():
  draw, codes = drawing()
  other = jnp.where(LAYOUT[..., :1] > 0, codes, 5.0)
  np.testing.assert_array_equal(draw(LAYOUT, other), draw(LAYOUT, codes))
  gradient = jax.grad(lambda c: draw(LAYOUT, c).sum())(codes)
  assert np.isfinite(gradient).all() and not gradient[0, 2].any() and gradient[0, 1].any()


def test_a_code_says_kind_side_and_the_words_that_are_read():
  random = np.random.default_rng(0)
  words = jnp.asarray(random.normal(size=(2, 4, 6)), jnp.float32)
  mask = jnp.asarray([[True] * 3 + [False]] * 2)
  text = Text(words, mask, words.mean(1))
  net = ObjectCodes(kinds=3, features=7)
  params = net.init(jax.random.key(0), LAYOUT, text)
  # What is read is begun with zeros; a trained network has other weights.
  params = jax.tree.map(lambda x: x + 0.1, params)
  codes = lambda objects=LAYOUT, words=words: net.apply(
      params, objects, Text(words, mask, words.mean(1)))
  changed = lambda a, b: np.abs(np.asarray(a - b)).max(-1) > 1e-4
  for column, other in ((0, 1), (3, 0.5)):
    objects = LAYOUT.copy()
    objects[0, 0, column] = other
    assert changed(codes(objects), codes()).tolist() == [[True, False, False], [False] * 3]
  moved = LAYOUT.copy()
  moved[..., 1:3] = 0.9
  assert not changed(codes(moved), codes()).any()
  assert changed(codes(words=words.at[0, 1].add(1.0)), codes())[0].all()
  assert not changed(codes(words=words.at[0, 3].add(1.0)), codes()).any()      # padding
