"""SSA-GAN's blocks and networks are torch's of the same weights, to rounding. Needs torch."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.impl import FAST, REFERENCE
from xmc_jax.networks import one_stage, ssa_gan

torch = pytest.importorskip('torch')
twin = pytest.importorskip('torch_ssa_gan')

ROWS, WIDTH, NOISE = 4, 2, 5
SHARED = dict(bn_group_size=None, impl=FAST, dtype=jnp.float32)


def close(a, b, most=1e-5):
  assert np.std(b) > 1e-3
  assert toys.spread(a, b) < most


def run(module, *args, train=None):
  """The module's numbers of random parameters, (in training) or by running statistics; and both."""
  last = () if train is None else (train,)
  variables = toys.fill(jax.eval_shape(lambda *a: module.init(jax.random.key(0), *a, *last), *args))
  apply = lambda v, *a: module.apply(v, *a, *last, mutable=['batch_stats'])[0]
  stats = None if train or train is None else variables['batch_stats']
  return jax.jit(apply)(variables, *args), variables['params'], stats or {}


def block_inputs(channels):
  x, sentence = toys.normal(0, ROWS, 8, 8, channels), toys.normal(1, ROWS, toys.TEXT_FEATURES)
  mask = toys.numbers(2).random((ROWS, 8, 8, 1)).astype(np.float32)
  return x, sentence, mask


def channels_first(x, sentence, mask):
  return twin.to_nchw(x), twin.tensor(sentence), twin.to_nchw(mask)


@pytest.mark.parametrize('train', [True, False])
def test_masked_modulation(train):
  inputs = block_inputs(6)
  out, params, stats = run(ssa_gan.Modulation(**SHARED), *inputs, train=train)
  close(out, twin.to_nhwc(twin.modulation(*channels_first(*inputs), params, stats)))


@pytest.mark.parametrize('features', [6, 4])
def test_generator_block_with_and_without_a_learnt_shortcut(features):
  inputs = block_inputs(6)
  out, params, stats = run(ssa_gan.SsaGanUpBlock(features, **SHARED), *inputs, train=True)
  assert ('shortcut' in params) == (features != 6)
  close(out, twin.to_nhwc(twin.up_block(*channels_first(*inputs), params, stats)))


@pytest.mark.parametrize('train', [True, False])
def test_mask_predictor(train):
  x = toys.normal(0, ROWS, 8, 8, 6)
  out, params, stats = run(ssa_gan.MaskPredictor(**SHARED), x, train=train)
  assert out.shape == (ROWS, 8, 8, 1)
  close(out, twin.to_nhwc(twin.mask_logits(twin.to_nchw(x), params, stats)))


@pytest.mark.parametrize('features', [6, 4])
def test_discriminator_block_with_and_without_a_learnt_shortcut(features):
  x = toys.normal(0, ROWS, 8, 8, 6)
  out, params, _ = run(one_stage.OneStageDownBlock(features, FAST, jnp.float32), x)
  close(out, twin.to_nhwc(twin.down_block(twin.to_nchw(x), params)))


@pytest.mark.parametrize('impl', [FAST, REFERENCE])
@pytest.mark.parametrize('train', [True, False])
def test_generator(train, impl):
  text, z = toys.text(rows=ROWS), toys.normal(5, ROWS, NOISE)
  made = ssa_gan.SsaGanGenerator(32, WIDTH, impl=impl)
  out, params, stats = run(made, text, z, train=train)
  assert out.shape == (ROWS, 32, 32, 3)
  close(out, twin.generator(text.sentence, z, params, stats))


@pytest.mark.parametrize('size', [32, 128])
def test_discriminator_and_its_slope(size):
  image = 2 * toys.numbers(size).random((ROWS, size, size, 3)).astype(np.float32) - 1
  sentence, made = toys.text(rows=ROWS).sentence, ssa_gan.discriminator(size, WIDTH)
  (logits,), params, _ = run(made, image, sentence)
  close(logits, twin.discriminator(twin.to_nchw(image), twin.tensor(sentence), params).numpy())
  judge = lambda params, *pair: made.apply({'params': params}, *pair)[0].sum()
  slopes = jax.device_get(jax.jit(jax.grad(judge, (1, 2)))(params, image, sentence))
  squared = sum(np.square(x).sum(tuple(range(1, x.ndim))) for x in slopes)
  close(squared, twin.grad_norm_sq(image, sentence, params))
