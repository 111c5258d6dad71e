"""DF-GAN: a simple and effective baseline for text-to-image synthesis (arXiv 2008.05865).

The version of CVPR 2022. One generator at the size of the images, in whose blocks scales and shifts
follow from noise and sentence, and a discriminator with one-way output: one logit of an image
together with its caption. One round of two phases with the same fakes: the discriminator by hinge
losses with wrong captions and by the matching-aware gradient penalty (MA-GP) at real images and
their captions; then the generator, by the discriminator alone. The sentence is that of a frozen
DAMSM. The released code keeps no average of the generator, hence ema_decay = 0.

Unlike that code, a wrong pair is an image with the caption of the example after it instead of the
one before it, and images come from the data set at the size of the generator instead of being
cropped from 304 px.
"""
from __future__ import annotations

import ml_collections

from xmc_jax import config as defaults
from xmc_jax.losses.adversarial import hinge_g, hinge_matching_d
from xmc_jax.losses.penalties import ma_gp
from xmc_jax.methods import Method, _damsm, _shared
from xmc_jax.methods._steps import Extension, Losses, one_round
from xmc_jax.networks import df_gan
from xmc_jax.networks.base import ForwardOutputs
from xmc_jax.networks.one_stage import SIZES, OneStageNetworks


def config() -> ml_collections.ConfigDict:
  """The settings of the released code for CUB at 256 px; locked."""
  c = defaults.base()
  with c.unlocked():
    c.method = 'df_gan'
    c.batch_size = 32
    c.ema_decay = 0.0
    c.model = dict(
        size=256,                    # side of the images, px: 32, 64, 128 or 256
        width=32,                    # channels per multiple
        z_features=100,              # of the noise
        dtype='float32',             # of the networks' arithmetic
        impl='auto',                 # of the operations: 'auto', 'fast', 'reference'
        **_shared.label_config())
    c.text = _damsm.text_config(words=5450)
    c.image.encoder = 'inception-torchvision'      # of the DAMSM, as long as its folder is missing
    c.terms = dict(                  # weights of the losses; one of weight 0 is not computed
        hinge=1.0,
        ma_gp=1.0)                   # of the discriminator's gradient norm
    c.optim = dict(g=dict(lr=1e-4, b1=0.0, b2=0.9), d=dict(lr=4e-4, b1=0.0, b2=0.9))
  return c


def discriminator_losses(out: ForwardOutputs) -> Losses:
  """Hinge of real, fake and wrong pairs, and MA-GP: 2 E |gradient of D(real, its caption)|^6."""
  return {'hinge': hinge_matching_d(out.d_real.logits[0], out.d_fake.logits[0],
                                    out.d_wrong.logits[0]),
          'ma_gp': ma_gp(out.grad_norm_sq)}


def generator_losses(out: ForwardOutputs) -> Losses:
  """-D(fake)."""
  return {'hinge': hinge_g(out.d_fake.logits[0])}


def build(config: ml_collections.ConfigDict, extension: Extension | None = None) -> Method:
  """DF-GAN of `config`."""
  _shared.check_size(config, SIZES)
  _shared.check_wrong_pairs(config)
  m, options = config.model, _shared.options(config)
  damsm = _damsm.frozen_damsm(config, embeds_images=bool(extension))     # else no loss does
  networks = OneStageNetworks(
      df_gan.DfGanGenerator(m.size, m.width, **options),
      df_gan.discriminator(m.size, m.width, **options), damsm.encode, damsm.features,
      damsm.embed_images, m.z_features)
  return one_round(
      config, networks, {'discriminator': ('d', discriminator_losses),
                         'generator': ('g', generator_losses)}, extension,
      frozen=damsm.frozen, frozen_spec=damsm.spec, tokenizer=damsm.tokenizer)
