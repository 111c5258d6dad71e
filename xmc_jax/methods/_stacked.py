"""Settings and step that AttnGAN and DM-GAN share; the losses are those of `attngan`."""
from __future__ import annotations

import functools
from collections.abc import Callable

import ml_collections
from ml_collections import config_dict

from xmc_jax import config as defaults
from xmc_jax.methods import Method, _damsm, _shared
from xmc_jax.methods._steps import Extension, Losses, one_round
from xmc_jax.networks.attngan import MASKS
from xmc_jax.networks.stacked import StackedDiscriminator, StackedGenerator, StackedNetworks
from xmc_jax.types import UserError


def config(method: str, **model) -> ml_collections.ConfigDict:
  """The settings that AttnGAN's and DM-GAN's released code share, for CUB at 256 px; locked.

  model: what differs of `config.model`: width, d_width.
  """
  c = defaults.base()
  with c.unlocked():
    c.method = method
    c.ema_decay = 0.999
    c.model = dict(
        size=256,                    # side of the last image, px: 32, 64, 128 or 256
        **model,
        residuals=2,                 # residual blocks of each later stage
        z_features=100,              # of the noise
        condition_features=100,      # of the condition that is drawn for each sentence
        mask='own',                  # of padding: each row's own, or 'tiled', the released code's
        bn_group_size=config_dict.placeholder(int),
                                     # examples that share BatchNorm statistics; None: all
        dtype='float32',             # of the networks' arithmetic
        impl='auto',                 # of the operations: 'auto', 'fast', 'reference'
        remat='nothing',             # in the generator's backward pass: 'nothing' or 'blocks'
        **_shared.label_config())
    c.text = _damsm.text_config(words=5450)
    c.image.encoder = 'inception-torchvision'      # of the DAMSM, as long as its folder is missing
    c.terms = dict(                  # weights of the losses; one of weight 0 is not computed
        bce=1.0,
        kl=1.0,                      # of the drawn conditions from the standard normal
        **_damsm.loss_config(5.0))
    c.optim = {network: dict(lr=2e-4, b1=0.5, b2=0.999) for network in 'gd'}
  return c


def generator_options(config: ml_collections.ConfigDict) -> dict[str, object]:
  """Keyword arguments of a family's `generator`."""
  m = config.model
  if m.bn_group_size == 1:
    raise UserError('--config.model.bn_group_size=1: the first BatchNorm has one vector per '
                    'example, which would be normalized to 0, so images would depend on nothing; '
                    'set 2 or more')
  if m.mask not in MASKS:
    raise UserError(f'--config.model.mask={m.mask}: choose one of {", ".join(MASKS)}')
  return dict(mask=m.mask, noise_features=m.z_features, condition_features=m.condition_features,
              bn_group_size=m.bn_group_size, remat=m.remat, **_shared.options(config))


def build(config: ml_collections.ConfigDict, generator: StackedGenerator,
          discriminator: StackedDiscriminator,
          d_losses: Callable[..., Losses], g_losses: Callable[..., Losses],
          extension: Extension | None, **options) -> Method:
  """The method of these networks and losses; `options` of `StackedNetworks`."""
  embeds_images = _damsm.has_loss(config.terms) or bool(extension)
  damsm = _damsm.frozen_damsm(config, embeds_images=embeds_images)
  networks = StackedNetworks(generator, discriminator, damsm.encode, damsm.features,
                             damsm.embed_images, **options)
  g_losses = functools.partial(g_losses, **_damsm.loss_options(config))
  return one_round(config, networks, {'discriminator': ('d', d_losses),
                                      'generator': ('g', g_losses)}, extension,
                   labels=_damsm.needs_labels(config.terms), frozen=damsm.frozen,
                   frozen_spec=damsm.spec, tokenizer=damsm.tokenizer)
