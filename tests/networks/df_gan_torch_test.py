"""DF-GAN's blocks and networks are torch's of the same weights, to rounding. Needs torch."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.impl import FAST, REFERENCE
from xmc_jax.losses.adversarial import hinge_matching_d
from xmc_jax.losses.penalties import ma_gp
from xmc_jax.networks import base, df_gan

torch = pytest.importorskip('torch')
twin = pytest.importorskip('torch_df_gan')

ROWS, WIDTH, NOISE = 4, 2, 5


def close(a, b, most=1e-5):
  assert np.std(b) > 1e-3
  assert toys.spread(a, b) < most


def run(module, *args):
  """The module's output with random parameters, and these."""
  variables = toys.fill(jax.eval_shape(lambda *a: module.init(jax.random.key(0), *a), *args))
  return jax.jit(module.apply)(variables, *args), variables['params']


@pytest.mark.parametrize('impl', [FAST, REFERENCE])
@pytest.mark.parametrize('features', [6, 4])
def test_generator_block_with_and_without_a_learnt_shortcut(features, impl):
  x, condition = toys.normal(0, ROWS, 8, 8, 6), toys.normal(1, ROWS, NOISE + toys.TEXT_FEATURES)
  out, params = run(df_gan.FuseUpBlock(features, 16, impl, jnp.float32), x, condition)
  assert ('shortcut' in params) == (features != 6)
  close(out, twin.to_nhwc(twin.up_block(twin.to_nchw(x), twin.tensor(condition), 16, params)))


@pytest.mark.parametrize('size, impl', [(32, FAST), (32, REFERENCE), (128, FAST)])
def test_generator(size, impl):
  text, z = toys.text(rows=ROWS), toys.normal(5, ROWS, NOISE)
  out, params = run(df_gan.DfGanGenerator(size, WIDTH, impl), text, z, True)
  assert out.shape == (ROWS, size, size, 3)
  close(out, twin.generator(text.sentence, z, params))


def pair(size):
  image = 2 * toys.numbers(size).random((ROWS, size, size, 3)).astype(np.float32) - 1
  return image, toys.text(rows=ROWS).sentence


def views(made, params, *inputs):
  """d_real, d_wrong, d_fake and the squared gradient norm of real and fake images and captions."""
  return jax.jit(lambda params, *x: base.matching_aware(
      lambda *y: made.apply({'params': params}, *y), *x))(params, *inputs)


@pytest.mark.parametrize('size', [32, 128])
def test_discriminator_and_its_gradient_penalty(size):
  image, sentence = pair(size)
  made = df_gan.discriminator(size, WIDTH)
  (logits,), params = run(made, image, sentence)
  close(logits, twin.discriminator(twin.to_nchw(image), twin.tensor(sentence), params).numpy())
  squared = views(made, params, image, image, sentence)['grad_norm_sq']
  wanted = twin.grad_norm_sq(image, sentence, params)
  close(squared, wanted)
  # k = 2 and p = 6 of the norm itself.
  np.testing.assert_allclose(ma_gp(jnp.asarray(squared)), 2 * np.mean(np.sqrt(wanted) ** 6),
                             rtol=1e-4)


def test_hinge_losses_of_matched_mismatched_and_fake_pairs():
  (image, sentence), fake = pair(32), np.float32(np.tanh(toys.normal(3, ROWS, 32, 32, 3)))
  made = df_gan.discriminator(32, WIDTH)
  _, params = run(made, image, sentence)
  out = views(made, params, image, fake, sentence)
  found = hinge_matching_d(*(out[name].logits[0] for name in ('d_real', 'd_fake', 'd_wrong')))
  theirs = lambda x, text: twin.discriminator(twin.to_nchw(x), twin.tensor(text), params)
  real, wrong = theirs(image, sentence), theirs(image, np.roll(sentence, -1, 0))
  low = lambda logits: torch.relu(1 + logits).mean()
  wanted = torch.relu(1 - real).mean() + (low(theirs(fake, sentence)) + low(wrong)) / 2
  np.testing.assert_allclose(found, wanted, rtol=1e-5)
