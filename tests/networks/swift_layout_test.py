"""The network of layouts: a distribution that sums to one, and samples that follow it."""
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmc_jax.networks import swift_layout
from xmc_jax.networks.base import Text
from xmc_jax.networks.swift_layout import LayoutNetwork


def text(rows, seed=0, length=5, features=6):
  random = np.random.default_rng(seed)
  words = random.normal(size=(rows, length, features)).astype(np.float32)
  mask = np.arange(length)[None] < random.integers(2, length + 1, rows)[:, None]
  return Text(jnp.asarray(words), jnp.asarray(mask), jnp.asarray(words.mean(1)))


def same(caption, rows):
  """The first of the captions, `rows` times."""
  return jax.tree.map(lambda x: jnp.repeat(x[:1], rows, 0), caption)


@pytest.fixture
def two_bins(monkeypatch):
  """Layouts that can be counted: two bins of each number."""
  monkeypatch.setattr(swift_layout, 'BINS', 2)
  monkeypatch.setattr(swift_layout, 'KIND_POWER', 1.0)


def all_layouts():
  """Each layout of at most two objects of two kinds, [273, 2, 4]: of none, of one and of two."""
  low, high = (np.geomspace(*swift_layout.SIDES, 5)[i] for i in (1, 3))
  places = list(itertools.product((0.25, 0.75), (0.25, 0.75), (low, high)))
  rows = [(kind, *place) for kind in (1, 2) for place in places]
  none = (0, 0, 0, 0)
  pairs = [(none, none), *((row, none) for row in rows), *itertools.product(rows, rows)]
  return np.array(pairs, np.float32)


def network(seed=0):
  net, caption = LayoutNetwork(kinds=2, objects=2, width=16, blocks=1), text(3)
  params = net.init(jax.random.key(seed), caption, jnp.zeros((3, 2, 4)))
  # Larger weights, so that the distribution is not nearly uniform.
  return net, jax.tree.map(lambda x: 1.5 * x, params), caption


def test_bins_are_those_of_numpy():
  objects = np.array([[[3, 0.0, 0.999, 0.03], [1, 0.5, 0.49, 1.0], [0, 0, 0, 0]]], np.float32)
  kind, y, x, side = swift_layout.bins(jnp.asarray(objects))
  assert kind.tolist() == [[3, 1, 0]]
  assert y.tolist() == [[0, 8, 0]] and x.tolist() == [[15, 7, 0]] and side.tolist() == [[0, 15, 0]]


def test_a_place_is_the_inverse_of_its_distribution_function():
  probabilities = np.array([0.1, 0.6, 0.3])
  uniform = np.linspace(0.001, 0.999, 57)
  found, share = swift_layout.drawn_place(jnp.log(jnp.tile(probabilities, (57, 1))),
                                          jnp.asarray(uniform))
  expected = np.interp(uniform, np.cumsum([0, *probabilities]), np.arange(4) / 3)
  np.testing.assert_allclose(share, expected, atol=1e-5)
  np.testing.assert_array_equal(found, np.floor(3 * expected).astype(int))


def test_the_probabilities_of_all_layouts_sum_to_one(two_bins):
  net, params, caption = network()
  objects = all_layouts()
  nll = net.apply(params, same(caption, len(objects)), jnp.asarray(objects))
  assert np.exp(-nll).sum() == pytest.approx(1, abs=1e-4)
  assert np.exp(-nll).max() > 3 * np.exp(-nll)[17:].mean()      # not uniform


def test_samples_follow_the_distribution(two_bins):
  net, params, caption = network()
  objects, draws = all_layouts(), 20_000
  expected = np.exp(-net.apply(params, same(caption, len(objects)), jnp.asarray(objects)))
  uniform = np.random.default_rng(1).uniform(size=(draws, 2, 4)).astype(np.float32)
  drawn = net.apply(params, same(caption, draws), jnp.asarray(uniform), method='sample')
  key = lambda layouts: np.stack(swift_layout.bins(jnp.asarray(layouts)), -1).reshape(-1, 8)
  known = {tuple(row): i for i, row in enumerate(key(objects).tolist())}
  counts = np.zeros(len(objects))
  for row in key(drawn).tolist():
    counts[known[tuple(row)]] += 1
  error = np.sqrt(expected * (1 - expected) / draws)
  assert (np.abs(counts / draws - expected) < 5 * error + 1e-4).all()


def test_kinds_are_drawn_sharper_than_they_are(two_bins, monkeypatch):
  net, params, caption = network()
  uniform = np.random.default_rng(1).uniform(size=(4000, 2, 4)).astype(np.float32)
  shares = []
  for power in (1.0, 4.0):
    monkeypatch.setattr(swift_layout, 'KIND_POWER', power)
    drawn = net.apply(params, same(caption, 4000), jnp.asarray(uniform), method='sample')
    shares.append(np.bincount(np.asarray(drawn[:, 0, 0], int), minlength=3) / 4000)
  sharp = shares[0] ** 4 / (shares[0] ** 4).sum()
  np.testing.assert_allclose(shares[1], sharp, atol=0.05)


def test_words_that_are_padding_have_no_influence():
  net, caption = LayoutNetwork(3, 2, width=16), text(4)
  objects = jnp.asarray(np.random.default_rng(2).uniform(0.1, 1, (4, 2, 4)).astype(np.float32))
  objects = objects.at[..., 0].set(jnp.asarray([[1, 2], [3, 0], [2, 2], [0, 0]]))
  params = net.init(jax.random.key(0), caption, objects)
  other = Text(jnp.where(caption.mask[..., None], caption.words, 9.0), caption.mask,
               caption.sentence)
  np.testing.assert_allclose(net.apply(params, other, objects),
                             net.apply(params, caption, objects), rtol=1e-5)


def test_the_layout_of_a_caption_is_learned():
  """Two captions with layouts of their own are told apart after some steps of gradient descent."""
  net, caption = LayoutNetwork(3, 2, width=32, blocks=1), text(2)
  objects = jnp.asarray([[[1, 0.2, 0.3, 0.3], [2, 0.7, 0.6, 0.2]],
                         [[3, 0.5, 0.5, 0.5], [0, 0, 0, 0]]], jnp.float32)
  params = net.init(jax.random.key(0), caption, objects)
  loss = jax.jit(jax.value_and_grad(lambda p: net.apply(p, caption, objects).mean()))
  first = loss(params)[0]
  for _ in range(60):
    _, gradient = loss(params)
    params = jax.tree.map(lambda p, g: p - 0.03 * g, params, gradient)
  assert loss(params)[0] < 0.2 * first
