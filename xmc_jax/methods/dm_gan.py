"""DM-GAN: dynamic memory generative adversarial networks (arXiv 1904.01310).

AttnGAN with another way to read words, a memory that the image writes and queries, and with
spectrally normalized discriminators. Losses and step are those of AttnGAN.
"""
from __future__ import annotations

import ml_collections

from xmc_jax.methods import Method, _shared, _stacked
from xmc_jax.methods._steps import Extension
from xmc_jax.methods.attngan import discriminator_losses, generator_losses
from xmc_jax.networks import dm_gan
from xmc_jax.networks.stacked import SIZES


def config() -> ml_collections.ConfigDict:
  """The settings of the released code for CUB; locked."""
  c = _stacked.config('dm_gan', width=64, d_width=32)
  c.batch_size = 10
  return c


def build(config: ml_collections.ConfigDict, extension: Extension | None = None) -> Method:
  """DM-GAN of `config`."""
  _shared.check_size(config, SIZES)
  _shared.check_wrong_pairs(config)
  m = config.model
  generator = dm_gan.generator(m.size, m.width, m.residuals, **_stacked.generator_options(config))
  discriminator = dm_gan.discriminator(m.size, m.d_width, **_shared.options(config))
  return _stacked.build(config, generator, discriminator, discriminator_losses, generator_losses,
                        extension, spectral=dm_gan.spectral)
