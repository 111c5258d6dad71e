"""SSA-GAN: text to image generation with semantic-spatial aware GAN (arXiv 2104.00567).

One scale, modulated by the sentence inside predicted masks. One round of three phases with the same
fakes: the discriminator by hinge losses with wrong captions; the discriminator again, in a step of
its own, by the matching-aware gradient penalty (MA-GP, arXiv 2008.05865); then the generator, by
the discriminator and a frozen DAMSM. The released code keeps no average of the generator, hence
ema_decay = 0.
"""
from __future__ import annotations

import functools

import ml_collections
from ml_collections import config_dict

from xmc_jax import config as defaults
from xmc_jax.losses.adversarial import hinge_g, hinge_matching_d
from xmc_jax.losses.penalties import ma_gp
from xmc_jax.methods import Method, _damsm, _shared
from xmc_jax.methods._damsm import damsm_losses
from xmc_jax.methods._steps import Extension, Losses, one_round
from xmc_jax.networks import ssa_gan
from xmc_jax.networks.base import ForwardOutputs
from xmc_jax.networks.one_stage import SIZES, OneStageNetworks


def config() -> ml_collections.ConfigDict:
  """The settings of the released code for CUB at 256 px; locked."""
  c = defaults.base()
  with c.unlocked():
    c.method = 'ssa_gan'
    c.batch_size = 24
    c.ema_decay = 0.0
    c.model = dict(
        size=256,                    # side of the images, px: 32, 64, 128 or 256
        width=64,                    # channels per multiple
        z_features=100,              # of the noise
        bn_group_size=config_dict.placeholder(int),
                                     # examples that share BatchNorm statistics; None: all
        dtype='float32',             # of the networks' arithmetic
        impl='auto',                 # of the operations: 'auto', 'fast', 'reference'
        **_shared.label_config())
    c.text = _damsm.text_config(words=5450)
    c.image.encoder = 'inception-torchvision'      # of the DAMSM, as long as its folder is missing
    c.image.corners = False          # the released code's DAMSM is AttnGAN's, but for its resize
    c.terms = dict(                  # weights of the losses; one of weight 0 is not computed
        hinge=1.0,
        ma_gp=1.0,                   # of the discriminator's gradient norm
        **_damsm.loss_config(0.05))
    c.terms.gamma1 = 5.0             # the code's default, while its DAMSM is trained with 4
    c.optim = dict(g=dict(lr=1e-4, b1=0.0, b2=0.9), d=dict(lr=4e-4, b1=0.0, b2=0.9))
  return c


def discriminator_losses(out: ForwardOutputs) -> Losses:
  """Hinge of real, fake and wrong pairs; as in the released code without the last wrong pair."""
  return {'hinge': hinge_matching_d(out.d_real.logits[0], out.d_fake.logits[0],
                                    out.d_wrong.logits[0][:-1])}


def gradient_penalty(out: ForwardOutputs) -> Losses:
  """MA-GP: 2 E |gradient of D(real image, its caption) in both|^6."""
  return {'ma_gp': ma_gp(out.grad_norm_sq)}


def generator_losses(out: ForwardOutputs, **damsm_options) -> Losses:
  """-D(fake), and DAMSM's losses of fakes."""
  return {'hinge': hinge_g(out.d_fake.logits[0]), **damsm_losses(out, **damsm_options)}


def build(config: ml_collections.ConfigDict, extension: Extension | None = None) -> Method:
  """SSA-GAN of `config`."""
  _shared.check_size(config, SIZES)
  _shared.check_wrong_pairs(config)
  m, w = config.model, config.terms
  options = _shared.options(config)
  damsm = _damsm.frozen_damsm(config, embeds_images=_damsm.has_loss(w) or bool(extension))
  networks = OneStageNetworks(
      ssa_gan.SsaGanGenerator(m.size, m.width, m.bn_group_size, **options),
      ssa_gan.discriminator(m.size, m.width, **options), damsm.encode, damsm.features,
      damsm.embed_images, m.z_features)
  g_losses = functools.partial(generator_losses, **_damsm.loss_options(config))
  phases = {'discriminator': ('d', discriminator_losses)}
  if w.ma_gp:
    phases['penalty'] = ('d', gradient_penalty)
  return one_round(config, networks, phases | {'generator': ('g', g_losses)}, extension,
                   labels=_damsm.needs_labels(w), frozen=damsm.frozen,
                   frozen_spec=damsm.spec, tokenizer=damsm.tokenizer)
