"""The matching network against plain numpy, and what has an influence on what."""
import functools

import jax
import numpy as np
import pytest
import toys
from flax import traverse_util
from safetensors import numpy as safetensors_numpy

from xmc_jax.networks import matcher
from xmc_jax.networks.base import Text
from xmc_jax.types import UserError

IMAGES, CAPTIONS, LENGTH, WORD = 3, 2, 5, toys.TEXT_FEATURES


@functools.cache
def world():
  """(variables, images, words, mask), and the function of all four."""
  variables = toys.fill(matcher.spec(WORD))
  images = toys.numbers(1).random((IMAGES, matcher.SIDE, matcher.SIDE, 3)).astype(np.float32)
  words = toys.normal(2, IMAGES, CAPTIONS, LENGTH, WORD)
  mask = np.arange(LENGTH) < np.array([[5, 2], [3, 1], [4, 5]])[..., None]
  return (variables, images, words, mask), jax.jit(matcher.Matcher().apply)


def silu(x):
  return x / (1 + np.exp(-x))


def softmax(x):
  e = np.exp(x - x.max())
  return e / e.sum()


def layer(params, words, places):
  """`ReadingLayer` of one caption [t, d] and one image [n, d], a head and a word at a time."""
  dense = lambda name, x: x @ params[name]['kernel'] + params[name]['bias']

  def norm(name, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * params[name]['scale'] + params[name]['bias']
  queries, keys = dense('query', norm('norm_read', words)), dense('key', places)
  values, read = dense('value', places), np.zeros_like(words)
  f = words.shape[-1] // 4
  for head in range(4):
    part = slice(head * f, (head + 1) * f)
    for i, query in enumerate(queries):
      logits = keys[:, part] @ query[part] / np.sqrt(f)
      shares = softmax(logits) if head < 2 else 1 / (1 + np.exp(2 - logits)) / 4
      read[i, part] = shares @ values[:, part]
  words = words + dense('out', read)
  return words + dense('mlp_out', silu(dense('mlp_in', norm('norm_mlp', words))))


def test_a_layer_is_its_numpy_twin():
  words, places = toys.normal(3, 1, 2, LENGTH, 16), toys.normal(4, 1, 6, 16)
  module = matcher.ReadingLayer()
  spec = jax.eval_shape(module.init, jax.random.key(0), words, places)
  variables = toys.fill(spec)
  found = module.apply(variables, words, places)
  for i in range(2):
    wanted = layer(variables['params'], words[0, i].astype(np.float64), places[0])
    np.testing.assert_allclose(found[0, i], wanted, rtol=2e-4, atol=2e-5)


def test_two_of_a_thing_are_told_from_three():
  """Attention alone is a mean over places, which as many of all of them do not change."""
  words, places = toys.normal(3, 1, 1, LENGTH, 16), toys.normal(4, 1, 6, 16)
  module = matcher.ReadingLayer()
  variables = toys.fill(jax.eval_shape(module.init, jax.random.key(0), words, places))
  once, twice = (module.apply(variables, words, np.repeat(places, n, 1)) for n in (1, 2))
  assert np.abs(once - twice).max() > 1e-2
  kernel = variables['params']['out']['kernel'].copy()
  kernel[8:] = 0      # of the heads that add up
  variables['params']['out'] = variables['params']['out'] | {'kernel': kernel}
  once, twice = (module.apply(variables, words, np.repeat(places, n, 1)) for n in (1, 2))
  np.testing.assert_allclose(once, twice, atol=1e-5)


def test_only_words_that_are_there_and_the_own_image_matter():
  (variables, images, words, mask), run = world()
  found = run(variables, images, words, mask)
  assert found.shape == (IMAGES, CAPTIONS) and len(np.unique(found.round(6))) == found.size
  padded = np.where(mask[..., None], words, 7 * toys.normal(5, *words.shape))
  np.testing.assert_allclose(run(variables, images, padded, mask), found, atol=1e-5)
  np.testing.assert_allclose(run(variables, images, words[:, ::-1], mask[:, ::-1]),
                             found[:, ::-1], atol=1e-5)
  changed = run(variables, np.concatenate([images[:2], images[:1]]), words, mask)
  np.testing.assert_allclose(changed[:2], found[:2], atol=1e-5)
  assert np.abs(changed[2] - found[2]).min() > 1e-4


@pytest.mark.slow
def test_wrong_captions_are_those_of_the_next_images():
  (variables, images, words, mask), run = world()
  text = Text(words[:, 0], mask[:, 0], None)
  found = matcher.logits_of(variables, images, text, wrong=1)
  assert found.shape == (IMAGES, 2)
  for i, image in enumerate(images):
    for j, caption in enumerate((i, (i + 1) % IMAGES)):
      alone = run(variables, image[None], words[None, caption, :1], mask[None, caption, :1])[0, 0]
      np.testing.assert_allclose(found[i, j], alone, atol=1e-5)


def test_weights_are_read_and_others_refused(tmp_path):
  (variables, *_), _ = world()
  path = tmp_path / 'matcher.safetensors'
  with pytest.raises(UserError, match=r'matcher\.safetensors'):
    matcher.load(str(path), WORD)
  flat = traverse_util.flatten_dict(variables['params'], sep='/')
  safetensors_numpy.save_file(flat, path)
  jax.tree.map(np.testing.assert_array_equal, matcher.load(str(path), WORD), variables)
  with pytest.raises(UserError, match=r'words/kernel.*train_matcher'):
    matcher.load(str(path), 384)
