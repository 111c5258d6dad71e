"""XMC-GAN: cross-modal contrastive learning for text-to-image generation (arXiv 2101.04702).

The discriminator learns from a hinge loss and from the contrast of real images with their captions,
by sentence and by words. The generator learns from the same contrasts of its fakes, and from the
contrast of each fake with the real image of its caption, by the features of the discriminator and
of a frozen image network. A step has two rounds of fresh data: the discriminator alone, then both
networks from one forward pass.
"""
from __future__ import annotations

import functools

import ml_collections
from ml_collections import config_dict

from xmc_jax import config as defaults
from xmc_jax.config import negatives_group
from xmc_jax.encoders import image_embedding
from xmc_jax.layers.augment import augmentation
from xmc_jax.losses.adversarial import hinge_d, hinge_g
from xmc_jax.losses.contrastive import nt_xent
from xmc_jax.losses.groups import within
from xmc_jax.losses.matching import SCORES, word_loss
from xmc_jax.methods import Method, _bert, _caption_table, _shared
from xmc_jax.methods._diagnostics import accuracies
from xmc_jax.methods._steps import Extension, Losses, make_phase
from xmc_jax.networks.base import ForwardOutputs
from xmc_jax.networks.xmc_gan import UP_MULTIPLES, XmcNetworks
from xmc_jax.training.microbatches import Microbatches, check_microbatches
from xmc_jax.training.objective import Objective


def config() -> ml_collections.ConfigDict:
  """The published settings at 256 px, where there are any; locked."""
  c = defaults.base()
  with c.unlocked():
    c.method = 'xmc_gan'
    c.model = dict(
        size=256,                    # side of the images, px: 32, 64, 128 or 256
        width=96,                    # channels per multiple
        z_features=128,              # of the noise
        bn_group_size=config_dict.placeholder(int),
                                     # examples that share BatchNorm statistics; None: all
        dtype='bfloat16',            # of the networks' arithmetic; parameters are float32
        impl='auto',                 # of the operations: 'auto', 'fast', 'reference'
        remat='nothing',             # in the backward pass: 'nothing' or 'blocks'
        augment=(),                  # before the discriminator: 'color', 'translation', 'cutout'
        **_shared.label_config())
    c.text = _bert.text_config()
    c.terms = dict(                  # weights of the losses; one of weight 0 is not computed
        hinge=1.0,
        sentence=1.0,
        word=1.0,
        image=1.0,                   # fake against real, by the discriminator's features
        image_frozen=0.0)            # fake against real, by the frozen network image.encoder
    c.optim = dict(g=dict(lr=1e-4, b1=0.5, b2=0.999), d=dict(lr=4e-4, b1=0.5, b2=0.999))
  return c


# Word pieces of a caption in the paper.
_PIECES = {'coco2014': 17, 'ln_coco': 64, 'ln_openimages': 64}


def published(data: str, *, size: int = 256, batch_size: int = 256,
              epochs: int = 500) -> ml_collections.ConfigDict:
  """The paper's setting on the prepared set `data`, at `size` px.

  The length is `epochs` over the examples of the set, where those of both rounds count.
  """
  c = config()
  examples, c.text.length = defaults.train_on(c, data), _PIECES[data]
  c.model.size, c.batch_size = size, batch_size
  c.steps = epochs * examples // (2 * batch_size)
  c.terms.image_frozen, c.image.encoder = 1.0, 'vgg19'
  c.every.save = c.every.images = 2000
  return c


def discriminator_losses(out: ForwardOutputs, *, group: int | None = None,
                         scores=SCORES['gram']) -> Losses:
  """L_D: hinge, and the sentence and word contrast of real images.

  group: examples that contrast with one another; None is the whole batch. scores: the
  implementation of the word-region scores.
  """
  word = functools.partial(word_loss, scores=scores)
  return {
      'hinge': hinge_d(out.d_real.logits[0], out.d_fake.logits[0]),
      'sentence': within(group, nt_xent)(out.d_real.features, out.d_real.sentence),
      'word': within(group, word)(out.d_real.regions, out.text.words, out.text.mask)}


def generator_losses(out: ForwardOutputs, *, group: int | None = None,
                     scores=SCORES['gram']) -> Losses:
  """L_G: -D(fake), the contrasts of fakes with their captions, and of fakes with real images."""
  word = functools.partial(word_loss, scores=scores)
  losses = {
      'hinge': hinge_g(out.d_fake.logits[0]),
      'sentence': within(group, nt_xent)(out.d_fake.features, out.d_fake.sentence),
      'word': within(group, word)(out.d_fake.regions, out.text.words, out.text.mask),
      'image': within(group, nt_xent)(out.d_fake.features, out.d_real.features)}
  if out.fake_embedding is not None:      # there is a frozen image network
    losses['image_frozen'] = within(group, nt_xent)(out.fake_embedding, out.real_embedding)
  return losses


def build(config: ml_collections.ConfigDict, extension: Extension | None = None) -> Method:
  """XMC-GAN of `config`."""
  _shared.check_size(config, UP_MULTIPLES)
  model, weights = config.model, config.terms
  impl, dtype = _shared.options(config).values()
  text = _bert.frozen_bert(config, dtype)
  embeds_images = weights.image_frozen or extension
  image = image_embedding.build(config.image.encoder, dtype) if embeds_images else None

  encode, frozen, frozen_spec = _caption_table.training_captions(config, text)
  networks = XmcNetworks(
      model.size, model.width, encode, text.features, text.encode,
      embed_image=(lambda frozen, x: image.embed(frozen['image'], x)) if image else None,
      augment=augmentation(model.augment), z_features=model.z_features,
      bn_group_size=model.bn_group_size, impl=impl, remat=model.remat, dtype=dtype)
  microbatches = Microbatches(config.microbatches, model.bn_group_size)
  check_microbatches(microbatches, config.batch_size)

  options = dict(group=negatives_group(config.negatives), scores=SCORES[impl.words])
  d_losses = functools.partial(discriminator_losses, **options)
  g_losses = functools.partial(generator_losses, **options)
  phase = functools.partial(make_phase, weights=weights, networks=networks, extension=extension,
                            microbatches=microbatches)
  first_round = (phase('discriminator', {'d': d_losses}),)
  second_round = (phase('joint', {'d': d_losses, 'g': g_losses}, diagnostics=accuracies),)

  if image:
    frozen_spec['image'], frozen['image'] = image.spec(), image.load
  return Method(
      objective=Objective((first_round, second_round), networks.init, averaged=('g',)),
      sample=networks.sample, z_features=model.z_features,
      frozen=frozen, frozen_spec=frozen_spec,
      batch_spec=_shared.batch_spec(config, extension, rounds=2),
      tokenizer=text.tokenizer, frozen_settings={'text': text.settings}, microbatches=True)
