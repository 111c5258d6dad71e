"""SCL: supervised contrastive learning for image synthesis (arXiv 2412.03957), over any method.

Every example of a batch has a partner with the same label (`data.partners`). The networks see both,
one after the other and with the same weights: two branches. It is used twice.

1. Pre-training of the image-text encoder (`methods/damsm.py`, `methods/clip.py`): its losses are
   summed over both branches, and `encoder_losses` draw together the embeddings of captions, of
   images and of pairs with the same label.
2. Training of the generator: the losses of the method are summed over both branches, and
   `generator_losses` draw together the embeddings of fakes whose captions have the same label.

No text with the equations of the paper was available to us. Weight and temperature of the second
step are those of its public ancestor, which contrasts two captions of one image (arXiv 2107.02423);
everything else is our reconstruction, described in docs/scl.md. The controls are config values:

  config.scl.supcon_fake = 0         two branches without the loss
  config.data.partners = 'self'      two captions of the same image, NT-Xent: the ancestor
  config.scl.unicl = ...             with captions: UniCL's form; `supcon_fake = 0` for it alone

Further forms of the second step, tried and without gain (docs/ablation.md): the embeddings of the
discriminator, SupCon of real images for the discriminator, and fakes with real images.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import TypeVar

import jax
import jax.numpy as jnp
import ml_collections

from xmc_jax import methods
from xmc_jax.data.views import one_view, two_views
from xmc_jax.losses.contrastive import multi_positive_nce, sup_con
from xmc_jax.losses.positives import positive_pairs
from xmc_jax.methods import Method, _shared
from xmc_jax.methods._steps import Branches, Extension, Losses
from xmc_jax.networks.base import ForwardOutputs
from xmc_jax.types import Array, UserError

T = TypeVar('T')

PARTNER_LOSSES = ('supcon_text', 'supcon_image')      # these compare examples of one modality


def positives(branches: Branches, rule: str) -> Array:
  """[m, m] float32: which examples of all branches, one branch after the other, belong together.

  Examples with the same label by `rule`, and the same place of every branch whatever its label: an
  image without a label, or the only one with its label, is its own partner.
  """
  examples = len(jax.tree.leaves(branches[0].batch)[0])
  partners = jnp.tile(jnp.eye(examples), (len(branches), len(branches)))
  if rule == 'self':      # there may be no labels
    return partners
  labels = jnp.concatenate([out.batch['label'] for out in branches])
  return jnp.maximum(positive_pairs(labels, rule).astype(jnp.float32), partners)


def encoder_losses(branches: Branches, *, rule: str, temperature: float,
                   pairs_temperature: float) -> Losses:
  """SupCon among captions, SupCon among images, and UniCL between images and captions."""
  captions = _all(branches, lambda out: out.text.sentence)
  images = _all(branches, lambda out: out.real_embedding)
  belong = positives(branches, rule)
  return {'supcon_text': sup_con(captions, belong, temperature),
          'supcon_image': sup_con(images, belong, temperature),
          'unicl': multi_positive_nce(images, captions, belong, pairs_temperature)}


def generator_losses(branches: Branches, *, rule: str, temperature: float,
                     pairs_temperature: float, embedding: str, fake_real: bool, unicl: bool
                     ) -> Losses:
  """SupCon among fakes; on request, UniCL between fakes and real images and fakes and captions.

  embedding: whose embeddings are compared, of `EMBEDDINGS`.
  """
  seen = [EMBEDDINGS[embedding](out) for out in branches]
  fakes, belong = _all(seen, lambda e: e.fake), positives(branches, rule)
  losses = {'supcon_fake': sup_con(fakes, belong, temperature)}
  if fake_real:
    reals = _all(seen, lambda e: e.real)
    losses['fake_real'] = multi_positive_nce(fakes, reals, belong, pairs_temperature)
  if unicl:
    captions = _all(seen, lambda e: e.caption)
    if fakes.shape[-1] != captions.shape[-1]:
      raise UserError('unicl: the embeddings of images and captions have '
                      f'{fakes.shape[-1]} and {captions.shape[-1]} features in this method, so '
                      'they cannot be compared; set --config.scl.unicl=0')
    losses['unicl'] = multi_positive_nce(fakes, captions, belong, pairs_temperature)
  return losses


def discriminator_losses(branches: Branches, *, rule: str, temperature: float) -> Losses:
  """SupCon among real images, by the discriminator's own embeddings."""
  reals = _all(branches, lambda out: _by_discriminator(out).real)
  return {'supcon_real': sup_con(reals, positives(branches, rule), temperature)}


@dataclasses.dataclass(frozen=True)
class ComparedEmbeddings:
  """What the losses compare, each [b, d]."""
  fake: Array
  real: Array
  caption: Array


def _by_frozen_networks(out: ForwardOutputs) -> ComparedEmbeddings:
  return ComparedEmbeddings(out.fake_embedding, out.real_embedding, out.text.sentence)


def _by_discriminator(out: ForwardOutputs) -> ComparedEmbeddings:
  if out.d_fake.features is None:
    raise UserError('--config.scl: the discriminator of this method has no embedding of images; '
                    'set --config.scl.embedding=frozen and --config.scl.supcon_real=0')
  return ComparedEmbeddings(out.d_fake.features, out.d_real.features, out.d_fake.sentence)


EMBEDDINGS = {'frozen': _by_frozen_networks, 'discriminator': _by_discriminator}


def _all(branches: Iterable[T], embedding: Callable[[T], Array]) -> Array:
  return jnp.concatenate([embedding(out) for out in branches])


# Pre-training.

def encoder_loss_config() -> dict[str, object]:
  """The keys of an encoder's `config.terms` that belong to this framework."""
  return dict(
      mask_same_class=True,      # images with the same label are no negatives of each other
      # Weights, 0 for none. 1 each is our default with partners.
      supcon_text=0.0, supcon_image=0.0, unicl=0.0,
      temperature=0.5,           # of captions and of images among themselves
      pairs_temperature=0.1,     # of images with captions
      labels=0.0)                # label classification, what the framework is compared with


def pretraining(base: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config of an image-text encoder with two branches and these losses; locked."""
  c = ml_collections.ConfigDict(base)      # a copy
  c.data.partners = 'exact'
  c.terms.update(mask_same_class=True, supcon_text=1.0, supcon_image=1.0, unicl=1.0)
  return c.lock()


def encoder_extension(config: ml_collections.ConfigDict) -> Extension:
  """What `config` adds to the losses of an image-text encoder. Checks that it can be computed."""
  w = config.terms
  if not config.data.partners and (missing := [name for name in PARTNER_LOSSES if w[name]]):
    raise UserError(f'--config.terms.{missing[0]}={w[missing[0]]}: comparing examples of the same '
                    'label needs partners; choose their rule with --config.data.partners')
  if not config.model.classes and (w.labels or not config.model.one_class
                                   and needs_labels(config)):
    raise UserError('--config.model.classes: the losses use labels, so give the number of classes '
                    'that the data set has')
  split = two_views if config.data.partners else one_view
  if not any(w[name] for name in (*PARTNER_LOSSES, 'unicl')):
    return Extension(split)
  losses = functools.partial(encoder_losses, rule=label_rule(config), temperature=w.temperature,
                             pairs_temperature=w.pairs_temperature)
  return Extension(split, {'encoder': losses}, w)


def label_rule(config: ml_collections.ConfigDict) -> str:
  """The rule by which labels are the same."""
  return config.data.partners or 'exact'


def mask_rule(config: ml_collections.ConfigDict) -> str:
  """The rule by which examples are no negatives of an encoder's own losses; '' for none."""
  return _shared.mask_rule(config) if config.terms.mask_same_class else ''


def needs_labels(config: ml_collections.ConfigDict) -> bool:
  """Whether a loss of an image-text encoder uses labels."""
  w = config.terms
  compared = (w.unicl or w.get('supcon_words') or any(w[name] for name in PARTNER_LOSSES))
  return bool(w.mask_same_class or w.labels or compared and label_rule(config) != 'self')


# Training of a generator.

def config(base: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config of another method with two branches and the loss; locked."""
  c = ml_collections.ConfigDict(base)      # a copy
  with c.unlocked():
    c.base, c.method = c.method, 'scl'
    c.data.partners = 'exact'
    c.scl = dict(
        embedding='frozen',        # of images, by the image network, or 'discriminator'
        supcon_fake=0.2,           # weight: embeddings of fakes among themselves
        supcon_real=0.0,           # weight: of real images, for the discriminator; always by it
        temperature=0.5,
        fake_real=0.0,             # weight: embeddings of fakes with real images
        unicl=0.0,                 # weight: embeddings of fakes with captions
        pairs_temperature=0.1)
    if 'damsm_mask_same_class' in c.terms:
      c.terms.damsm_mask_same_class = True    # else the same labels would be pushed apart after all
  return c.lock()


def extend(base: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config of another method with the framework: of a generator or its encoder; locked."""
  return pretraining(base) if 'supcon_text' in base.terms else config(base)


def build(config: ml_collections.ConfigDict) -> Method:
  """The method `config.base` with two branches and the loss."""
  rule, s = config.data.partners, config.get('scl')
  if s is None or 'base' not in config:
    raise UserError("method = 'scl' needs the method that it extends: make the config with "
                    'xmc_jax.methods.scl.config(), as configs/scl.py does')
  if config.base == config.method:
    raise UserError("--config.base=scl: it must be another method, for instance 'attngan'")
  if not rule:
    raise UserError("--config.data.partners='': two branches need partners with the same label; "
                    'choose their rule, for instance exact, or self for another caption of the '
                    'image')
  if s.embedding not in EMBEDDINGS:
    raise UserError(f'--config.scl.embedding={s.embedding}: choose one of {", ".join(EMBEDDINGS)}')
  losses = {}
  if s.supcon_fake or s.fake_real or s.unicl:
    losses['g'] = functools.partial(
        generator_losses, rule=rule, temperature=s.temperature, embedding=s.embedding,
        pairs_temperature=s.pairs_temperature, fake_real=bool(s.fake_real), unicl=bool(s.unicl))
  if s.supcon_real:
    losses['d'] = functools.partial(discriminator_losses, rule=rule, temperature=s.temperature)
  return methods.find(config, 'base').build(config, Extension(
      two_views, losses, s, labels=bool(losses) and rule != 'self'))
