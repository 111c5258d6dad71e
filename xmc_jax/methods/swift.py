"""Swift: images that can be recognized after minutes on one CPU core.

One round of two phases with the same fakes: discriminator heads over a frozen network, then the
generator. For most fakes an encoder reads the noise from the real image of the caption
(`model.known`); the others have random noise.

  heads      hinge over every place of four maps, with real images under wrong captions among the
             fakes (DF-GAN, arXiv 2008.05865); sentence and word contrast of real images (XMC-GAN,
             arXiv 2101.04702), by the features that the heads use; optionally the contrast of a
             word with the others of its caption (MGCA, arXiv 2210.06044)
  generator  the heads' logits; the same contrasts of fakes; distance to the real image by pixels
             and by the maps, where the noise was read from it, and the divergence of that noise
             from random noise (CVAE-GAN, arXiv 1703.10155)

With layouts (`model.objects`), the generator draws the objects of the real image where they are,
and a network learns to draw such layouts from the caption: term `objects` of the generator.

The distance teaches what things look like within minutes, the heads make it sharp, and the fakes of
random noise keep both true where there is no image to read. With these weights the gradients of all
losses on a fake of a young generator have about the same length.
"""
from __future__ import annotations

import functools

import ml_collections

from xmc_jax import config as defaults
from xmc_jax.config import negatives_group
from xmc_jax.encoders import registry, squeezenet
from xmc_jax.layers.augment import augmentation
from xmc_jax.losses.adversarial import hinge_g, hinge_matching_d
from xmc_jax.losses.contrastive import nt_xent
from xmc_jax.losses.groups import within
from xmc_jax.losses.latent import kl_to_normal
from xmc_jax.losses.matching import true_caption_loss, word_loss
from xmc_jax.losses.tokens import shown_token_loss, token_loss
from xmc_jax.methods import Method, _bert, _caption_table, _known_captions, _shared
from xmc_jax.methods._steps import Extension, Losses, one_round
from xmc_jax.networks import matcher
from xmc_jax.networks.swift import SwiftNetworks, SwiftOutputs
from xmc_jax.networks.swift_generator import SwiftGenerator
from xmc_jax.networks.swift_heads import Heads
from xmc_jax.networks.swift_layout import LayoutNetwork
from xmc_jax.types import UserError

SIZES = (32, 64, 128)
# Weights of the heads' logits in the generator's loss, by map: the deeper the map, the longer the
# gradient of its logits on a fake.
HEAD_WEIGHTS = (2.0, 0.25, 0.1, 0.05)


def config() -> ml_collections.ConfigDict:
  """The settings for 64 px on a CPU; locked."""
  c = defaults.base()
  with c.unlocked():
    c.method = 'swift'
    c.batch_size = 16
    c.ema_decay = 0.998
    c.model = dict(
        size=64,                      # side of the images, px: 32, 64 or 128
        widths=(256, 192, 96, 32),    # channels at 4 px, 8 px, … up to half the size
        heads_width=48,               # channels of the heads
        z_features=64,                # of the noise
        places=False,                 # the noise is a map of 4 x 4 places
        attention=0,                  # blocks in which places read one another, at 4 and 8 px
        refine=0,                     # residual blocks after the words are read, at 8 and 16 px
        fine=0,                       # blocks at half the size that read the words once more
        enlarge=1,                    # of images before SqueezeNet sees them: 1 or 2
        objects=0,                    # most objects of a layout; 0: there are no layouts
        heads_words=False,            # heads compare a place with words, in place of the sentence
        known=0.75,                   # share of fakes whose noise is read from the real image
        noise_std=1.0,                # of the noise of samples; in training it is one
        nearest=0.0,                  # captions of samples whose cosine with the nearest caption of
                                      # training is lower are drawn as that one
        matcher='',                   # file of a matching network, for `terms.matcher`
        dtype='float32',              # of the networks' arithmetic; no other
        impl='auto',                  # of the operations: 'auto', 'fast', 'reference'
        augment=('translation',),     # of real images and fakes alike, before the heads
        **_shared.label_config())
    c.text = dict(_bert.text_config(), encoder='all-MiniLM-L6-v2')
    c.terms = dict(                   # weights of the losses; one of weight 0 is not computed
        hinge=1.0,
        sentence=0.05, word=0.05,     # of the generator
        heads_sentence=0.5, heads_word=0.5,
        token=0.0, heads_token=0.0,   # of each word with the others of its caption
        pixels=40.0, perceptual=1.0,  # of a fake and the real image that its noise was read from
        kl=4.0,                       # of that noise; a mean over its features
        objects=0.1,                  # of the layout given the caption, if there are layouts
        matcher=0.0)                  # of fakes and captions, by the network of model.matcher
    c.optim = dict(
        g=dict(lr=1e-3, b1=0.0, b2=0.99, muon=0.9, adam=('encoder', 'start', 'pixels')),
        d=dict(lr=5e-4, b1=0.0, b2=0.99))
    c.evals.protocol = 'offline'
    del c['image']                    # the frozen image network is SqueezeNet
  return c


def discriminator_losses(out: SwiftOutputs, *, group: int | None = None) -> Losses:
  """Hinge of real, fake and wrong pairs, summed over heads; contrasts of real images."""
  heads = zip(out.d_real.logits, out.d_fake.logits, out.d_wrong.logits)
  return {
      'hinge': sum(hinge_matching_d(*logits) for logits in heads),
      'heads_sentence': within(group, nt_xent)(out.d_real.features, out.d_real.sentence),
      'heads_word': within(group, word_loss)(out.d_real.regions, out.text.words, out.text.mask),
      'heads_token': token_loss(out.d_real.regions, out.text.words, out.text.mask)}


def generator_losses(out: SwiftOutputs, *, group: int | None = None) -> Losses:
  """-D(fake) by head; contrasts of fakes; distances to the real image; divergence of the noise.

  And, with a matching network, its loss of fakes.
  """
  heads = zip(HEAD_WEIGHTS, out.d_fake.logits)
  matched = {} if out.match_logits is None else {'matcher': true_caption_loss(out.match_logits)}
  if out.layout_loss is not None:
    matched['objects'] = out.layout_loss.mean()
  return matched | {
      'hinge': sum(weight * hinge_g(logits) for weight, logits in heads),
      'sentence': within(group, nt_xent)(out.d_fake.features, out.d_fake.sentence),
      'word': within(group, word_loss)(out.d_fake.regions, out.text.words, out.text.mask),
      'token': shown_token_loss(out.d_fake.regions, out.d_real.regions, out.text.words,
                                out.text.mask),
      'pixels': out.pixels.mean(),
      'perceptual': out.perceptual.mean(),
      'kl': kl_to_normal(*out.latent)}


def build(config: ml_collections.ConfigDict, extension: Extension | None = None) -> Method:
  """Swift of `config`."""
  _shared.check_size(config, SIZES)
  _shared.check_wrong_pairs(config)
  m = config.model
  _check_model(m)
  if config.terms.matcher and not m.matcher:
    raise UserError('--config.terms.matcher: there is no matching network; give its weights with '
                    '--config.model.matcher=FILE, or set it to 0')
  impl, dtype = _shared.options(config).values()
  text = _bert.frozen_bert(config, dtype)
  backbone_spec = squeezenet.maps_variables_spec()
  encode, frozen, frozen_spec = _caption_table.training_captions(config, text)
  frozen['backbone'], frozen_spec['backbone'] = lambda: _load_backbone(backbone_spec), backbone_spec
  match_needs = ('backbone',)
  if m.matcher:
    match_needs += ('matcher',)
    frozen['matcher'] = functools.partial(matcher.load, m.matcher, text.features)
    frozen_spec['matcher'] = matcher.spec(text.features)
  layouts = LayoutNetwork(m.classes, m.objects) if m.objects else None
  networks = SwiftNetworks(
      SwiftGenerator(tuple(m.widths), m.places, m.attention, m.refine, m.fine,
                     kinds=m.classes if m.objects else 0, impl=impl),
      Heads(text.features, m.heads_width, read_words=m.heads_words), m.size, encode, text.encode,
      text.features, augmentation(m.augment), m.z_features, m.known, m.enlarge,
      m.noise_std, chooses_with_matcher=bool(m.matcher),
      learns_matching=bool(config.terms.matcher), layouts=layouts, nearest=m.nearest > 0)
  group = negatives_group(config.negatives)
  contrasted = config.terms.heads_word or config.terms.heads_token      # regions with words
  return one_round(
      config, networks, {'heads': ('d', functools.partial(discriminator_losses, group=group)),
                         'generator': ('g', functools.partial(generator_losses, group=group))},
      extension, objects=m.objects, frozen=frozen, frozen_spec=frozen_spec,
      tokenizer=text.tokenizer, match=networks.match if contrasted else None,
      match_needs=match_needs, frozen_settings={'text': text.settings},
      known_captions=functools.partial(_known_captions.table, config, text) if m.nearest else None,
      replaced=networks.replaced if m.nearest else None)


def _check_model(model: ml_collections.ConfigDict) -> None:
  """Raises UserError for settings that the networks cannot be built for."""
  blocks = model.size.bit_length() - 3
  if len(model.widths) != blocks:
    raise UserError(f'--config.model.widths: has {len(model.widths)} numbers; images of '
                    f'{model.size} px need {blocks}, the channels at 4 px, 8 px, … up to '
                    f'{model.size // 2} px')
  if model.dtype != 'float32':
    raise UserError(f'--config.model.dtype={model.dtype}: the networks of Swift compute in float32')
  if model.objects and not model.classes:
    raise UserError(f'--config.model.objects={model.objects}: layouts also need the number of '
                    'kinds of objects; set --config.model.classes')
  if model.enlarge not in (1, 2):
    raise UserError(f'--config.model.enlarge={model.enlarge}: must be 1 or 2')
  if model.places and (model.z_features % 16 or model.size != 64):
    raise UserError('--config.model.places: 4 x 4 places of 16 px need model.size = 64 and a '
                    f'multiple of 16 for model.z_features, not {model.size} and '
                    f'{model.z_features}')


def _load_backbone(spec):
  """SqueezeNet's weights without its classifier; UserError as of `registry.load`."""
  params = registry.load('squeezenet').variables['params']
  return {'params': {name: params[name] for name in spec['params']}}
