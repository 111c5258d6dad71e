"""GALIP's own networks are torch's of the same weights, to rounding. Needs torch."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.encoders import clip
from xmc_jax.encoders.clip_layers import TransformerConfig
from xmc_jax.layers.impl import FAST, REFERENCE
from xmc_jax.networks import galip

torch = pytest.importorskip('torch')
twin = pytest.importorskip('torch_galip')

ROWS, NOISE, WIDTH = 2, 5, 2
TOWER = TransformerConfig(6, 12, 2, 8, 'quick_gelu', 1e-5)
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def network(grid):
  """Sizes of a CLIP of ViT-B/32's depth, so of 8 prompts."""
  return clip.ClipConfig(TOWER, TOWER, 7, 4 * grid, 4, 13, 6, None)


def run_clip(x, prompts):
  """Any function of both."""
  return np.tanh(x + np.einsum('bpe->be', prompts)[:, None, None])


@pytest.mark.parametrize('impl', [FAST, REFERENCE])
@pytest.mark.parametrize('grid, size, sides', [
    (7, 224, (8, 16, 32, 64, 128, 224)), (8, 64, (16, 32, 64))])
def test_generator(grid, size, sides, impl):
  module = galip.GalipGenerator(size, WIDTH, network(grid), impl)
  sentence, z = toys.normal(0, ROWS, 7), toys.normal(1, ROWS, NOISE)
  def ours(x, prompts, first):
    assert prompts.shape == (ROWS, 8, 6) and first == 1
    return jnp.tanh(x + prompts.sum(1)[:, None, None])
  params = toys.fill(jax.eval_shape(
      lambda: module.init(jax.random.key(0), ours, sentence, z)))['params']
  found = jax.jit(lambda p: module.apply({'params': p}, ours, sentence, z))(params)
  with torch.no_grad():
    expected = twin.generator(params, run_clip, grid, sides, sentence, z)
  close(found, expected)
  assert found.shape == (ROWS, size, size, 3) and found.std() > 0.01


def inputs(channels):
  return toys.normal(0, ROWS, 8, 8, channels), toys.normal(1, ROWS, NOISE)


@pytest.mark.parametrize('module, theirs, given', [
    (galip.Fuse(jnp.float32), twin.fuse, inputs(6)),
    (galip.BridgeBlock(jnp.float32), twin.bridge_block, inputs(6)),
    (galip.Reading(4, jnp.float32), twin.reading, inputs(6)[:1]),
    (galip.Reading(6, jnp.float32), twin.reading, (inputs(6)[0], toys.normal(2, ROWS, 8, 8, 6)))],
    ids=['fuse', 'bridge', 'reading', 'reading another'])
def test_blocks(module, theirs, given):
  params = toys.fill(jax.eval_shape(lambda: module.init(jax.random.key(0), *given)))['params']
  found = jax.jit(lambda p: module.apply({'params': p}, *given))(params)
  torch_of = lambda x: twin.to_nchw(x) if x.ndim == 4 else twin.tensor(x)
  with torch.no_grad():
    wanted = twin.to_nhwc(theirs(*map(torch_of, given), p=params))
  assert toys.spread(found, wanted) < 1e-5
  assert found.shape != given[0].shape or toys.spread(found, given[0]) > 0.1


@pytest.mark.parametrize('grid', [7, 8])
def test_discriminator_and_its_slope(grid):
  module = galip.GalipDiscriminator(WIDTH)
  maps, sentence = toys.normal(0, ROWS, 3, grid, grid, 6), toys.normal(1, ROWS, 7)
  params = toys.fill(jax.eval_shape(
      lambda: module.init(jax.random.key(0), maps, sentence)))['params']
  judge = lambda *x: module.apply({'params': params}, *x)[0]
  theirs = twin.tensor(maps).permute(0, 1, 4, 2, 3), twin.tensor(sentence)
  with torch.no_grad():
    close(jax.jit(judge)(maps, sentence), twin.discriminator(params, *theirs))
  grads = jax.jit(jax.grad(lambda *x: judge(*x).sum(), (0, 1)))(maps, sentence)
  close(sum(np.square(x).sum(tuple(range(1, x.ndim))) for x in grads),
        twin.grad_norm_sq(params, *theirs))
