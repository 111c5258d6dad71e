"""AttnGAN: fine-grained text-to-image generation with attention (arXiv 1711.10485).

Three scales, drawn one from the other; from the second on words are read by attention. Each scale
has a discriminator, trained by cross-entropy on images alone and with captions. The generator
learns from all of them, from a frozen DAMSM that looks at the last image, and from the divergence
of the drawn conditions. One round of two phases with the same fakes: the discriminators, then the
generator, which is judged by the discriminators that this step has already updated.
"""
from __future__ import annotations

import ml_collections

from xmc_jax.losses.adversarial import bce_d, bce_g
from xmc_jax.losses.latent import kl_to_normal
from xmc_jax.methods import Method, _shared, _stacked
from xmc_jax.methods._damsm import damsm_losses
from xmc_jax.methods._steps import Extension, Losses
from xmc_jax.networks import attngan
from xmc_jax.networks.base import ForwardOutputs
from xmc_jax.networks.stacked import SIZES


def config() -> ml_collections.ConfigDict:
  """The settings of the released code for CUB; locked."""
  c = _stacked.config('attngan', width=32, d_width=64)
  c.batch_size = 20
  return c


def discriminator_losses(out: ForwardOutputs) -> Losses:
  """L_D, the sum over scales: images alone and with their captions, and wrong pairs.

  The last wrong pair is left out, as in the released code: it closes the circle of examples.
  """
  scales = zip(out.d_real.unconditional, out.d_real.logits, out.d_fake.unconditional,
               out.d_fake.logits, out.d_wrong.logits)
  return {'bce': sum(bce_d((real, real_paired), (fake, fake_paired), wrong[:-1])
                     for real, real_paired, fake, fake_paired, wrong in scales)}


def generator_losses(out: ForwardOutputs, **damsm_options) -> Losses:
  """L_G: all scales' discriminators; the divergence of the drawn conditions; DAMSM's losses."""
  scales = zip(out.d_fake.unconditional, out.d_fake.logits)
  return {
      'bce': sum(bce_g(logits) for logits in scales),
      'kl': kl_to_normal(*out.latent),
      **damsm_losses(out, **damsm_options)}


def build(config: ml_collections.ConfigDict, extension: Extension | None = None) -> Method:
  """AttnGAN of `config`."""
  _shared.check_size(config, SIZES)
  _shared.check_wrong_pairs(config)
  m = config.model
  generator = attngan.generator(m.size, m.width, m.residuals, **_stacked.generator_options(config))
  discriminator = attngan.discriminator(m.size, m.d_width, bn_group_size=m.bn_group_size,
                                        **_shared.options(config))
  return _stacked.build(config, generator, discriminator, discriminator_losses, generator_losses,
                        extension)
