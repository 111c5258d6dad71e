"""GALIP: generative adversarial CLIPs for text-to-image synthesis (arXiv 2301.12959).

Generator and discriminator are built around a frozen CLIP. One round of two phases with the same
fakes: the discriminator by the losses of DF-GAN (`methods/df_gan.py`), with the gradient penalty at
CLIP's feature maps of real images; then the generator, by the discriminator and by the
cosine of CLIP's embeddings of fakes and captions. The released code keeps no average of the
generator, hence ema_decay = 0.

Unlike that code, CLIP sees images normalized once (`model.clip_input`), images come from the data
set at the size that CLIP sees instead of being cropped from 256 px, and low precision is bfloat16
instead of float16 with a scaled loss.
"""
from __future__ import annotations

import dataclasses

import ml_collections

from xmc_jax import config as defaults
from xmc_jax.encoders import clip
from xmc_jax.losses.adversarial import hinge_g
from xmc_jax.losses.contrastive import mean_cosine
from xmc_jax.methods import Method, _clip, _shared
from xmc_jax.methods._steps import Extension, Losses, one_round
from xmc_jax.methods.df_gan import discriminator_losses
from xmc_jax.networks import galip
from xmc_jax.networks.base import ForwardOutputs
from xmc_jax.types import UserError


def config() -> ml_collections.ConfigDict:
  """The settings of the released code at 224 px; locked."""
  c = defaults.base()
  with c.unlocked():
    c.method = 'galip'
    c.batch_size = 512
    c.ema_decay = 0.0
    c.model = dict(
        size=224,                    # side of the images, px: 32, 64, 128, 224 or 256
        width=64,                    # channels per multiple
        z_features=100,              # of the noise
        clip_input='single',         # CLIP sees images normalized once, or 'released': twice
        dtype='bfloat16',            # of the networks' arithmetic, CLIP's too
        impl='auto',                 # of the operations: 'auto', 'fast', 'reference'
        remat='nothing',             # in the generator's backward pass: 'nothing' or 'blocks'
        **_shared.label_config())
    c.clip = _clip.sizes()
    c.text = _clip.text_config()
    c.terms = dict(                  # weights of the losses; one of weight 0 is not computed
        hinge=1.0,
        ma_gp=1.0,                   # of the discriminator's gradient norm
        similarity=4.0)              # of fakes and captions, by CLIP
    c.optim = dict(g=dict(lr=1e-4, b1=0.0, b2=0.9), d=dict(lr=4e-4, b1=0.0, b2=0.9))
    del c['image']                   # no other network looks at images
  return c


def generator_losses(out: ForwardOutputs) -> Losses:
  """-D(fake), and -cos(CLIP(fake), CLIP(caption))."""
  return {'hinge': hinge_g(out.d_fake.logits[0]),
          'similarity': -mean_cosine(out.fake_embedding, out.text.sentence)}


def build(config: ml_collections.ConfigDict, extension: Extension | None = None) -> Method:
  """GALIP of `config`."""
  _shared.check_size(config, galip.SIZES)
  _shared.check_wrong_pairs(config)
  m, encoder = config.model, config.text.encoder
  if m.width < 2:      # blocks halve their channels
    raise UserError(f'--config.model.width={m.width}: must be at least 2 for GALIP')
  network, options = _clip.network(config), _shared.options(config)
  _check_network(network.config, m.size)
  networks = galip.GalipNetworks(
      galip.GalipGenerator(m.size, m.width, network.config, remat=m.remat, **options),
      galip.GalipDiscriminator(m.width, options['dtype']), network, m.clip_input, m.z_features)
  return one_round(
      config, networks, {'discriminator': ('d', discriminator_losses),
                         'generator': ('g', generator_losses)}, extension,
      frozen={'clip': lambda: _clip.read(encoder)}, frozen_spec={'clip': clip.spec(network)},
      tokenizer=lambda: _clip.tokenizer(config, network), sample_needs=('clip',),
      frozen_settings={'clip': dataclasses.asdict(network.config)})


def _check_network(sizes: clip.ClipConfig, pixels: int) -> None:
  """Raises UserError for a CLIP that the networks cannot be built around."""
  if sizes.image.layers < galip.LEAST_LAYERS or not galip.LEAST_GRID <= sizes.grid < pixels:
    raise UserError(f'GALIP needs a CLIP of at least {galip.LEAST_LAYERS} layers, and of '
                    f'{galip.LEAST_GRID} patches a side or more but fewer than pixels of '
                    f'model.size; this one has {sizes.image.layers} layers and {sizes.grid} '
                    'patches a side: choose another with --config.text.encoder')
