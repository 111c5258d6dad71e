"""CLIP: learning transferable visual models from natural language supervision (arXiv 2103.00020).

Trained or tuned before the generators that read with it. One network, "encoder", in one phase:
captions find their images and the other way round, InfoNCE over the batch. With `data.partners` it
is trained as the first step of supervised contrastive learning, see `methods/scl.py`. What that
paper does for GALIP is not in any text available to us. Either the linear maps into the common
space of a published CLIP are tuned (`model.trained` = 'heads'), or all of it.

With `text.encoder` = '' a CLIP of the sizes in `config.clip` starts from random weights, with a
tokenizer of the training captions: so small ones are made for CPUs. Unlike CLIP, the temperature is
then given instead of learned, Adam has no weight decay, and after `warmup` the learning rate stays.
Do not leave the warm-up out: without it all embeddings collapse before they separate.
"""
from __future__ import annotations

import functools

import ml_collections
import numpy as np

from xmc_jax import config as defaults
from xmc_jax.config import negatives_group
from xmc_jax.data import source as sources
from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import clip, clip_tokens
from xmc_jax.losses import damsm as losses
from xmc_jax.losses.groups import within
from xmc_jax.methods import Method, _clip, _shared, scl
from xmc_jax.methods._diagnostics import retrieval
from xmc_jax.methods._steps import Losses, make_phase
from xmc_jax.methods.damsm import label_losses
from xmc_jax.networks.base import ForwardOutputs
from xmc_jax.networks.clip import ClipNetworks, without_heads
from xmc_jax.training.microbatches import Microbatches, check_microbatches
from xmc_jax.training.objective import Objective
from xmc_jax.types import UserError

TRAINED = ('all', 'heads')
small = _clip.small      # sizes for CPUs, for configs
READ = 5000       # images whose captions a new tokenizer is made of


def config() -> ml_collections.ConfigDict:
  """Heads of the published ViT-B/32, tuned; the settings are ours; locked."""
  c = defaults.base()
  with c.unlocked():
    c.method = 'clip'
    c.model = dict(
        size=224,                  # side of the images, px
        trained='heads',           # linear maps into the common space, or 'all'
        clip_input='single',       # images normalized once, or 'released': as GALIP's code
        dtype='float32', **_shared.label_config())
    c.clip = _clip.sizes()
    c.text = _clip.text_config()       # an encoder '': from random weights
    c.terms = dict(
        contrast=1.0,              # of pairs, from images to captions plus the other way round
        contrast_temperature=0.01, **scl.encoder_loss_config())
    c.optim = dict(encoder=dict(lr=1e-4, b1=0.9, b2=0.98, warmup=0))
    del c['image']
  return c


def encoder_losses(out: ForwardOutputs, *, temperature: float, group: int | None = None,
                   mask_rule: str = '') -> Losses:
  """InfoNCE in both directions, as a sum.

  group: examples that contrast; None is the whole batch. mask_rule: the rule by which examples with
  the same label are no negatives; '' for none.
  """
  labels = (out.batch['label'],) if mask_rule else ()
  info_nce = functools.partial(losses.sentences, rule=mask_rule, gamma3=1 / temperature)
  return {'contrast': within(group, info_nce)(out.real_embedding, out.text.sentence, *labels),
          **label_losses(out)}


def build(config: ml_collections.ConfigDict) -> Method:
  """CLIP of `config`, tuned or from random weights."""
  m, w, encoder = config.model, config.terms, config.text.encoder
  _check(config)
  extension = scl.encoder_extension(config)
  only, network = m.trained == 'heads', _clip.network(config)
  start = (lambda: _clip.read(encoder)['params']) if encoder else None
  rest = {'clip': lambda: {'params': without_heads(start())}} if only else {}
  networks = ClipNetworks(network, start, only, m.clip_input, m.classes if w.labels else 0)
  microbatches = Microbatches(config.microbatches, group=1)      # the networks mix no examples
  check_microbatches(microbatches, config.batch_size)
  loss = functools.partial(
      encoder_losses, temperature=w.contrast_temperature,
      group=negatives_group(config.negatives), mask_rule=scl.mask_rule(config))
  phase = make_phase('match', {'encoder': loss}, w, networks, extension=extension,
                     microbatches=microbatches, diagnostics=retrieval)

  def export(folder, params, tokenizer):
    whole = networks.whole(params['encoder'], {name: load() for name, load in rest.items()})
    clip.save(folder / 'encoder', network.config, {'params': whole}, tokenizer.text(),
              w.contrast_temperature)

  spec = {'params': without_heads(clip.spec(network)['params'])}
  return Method(
      objective=Objective(((phase,),), networks.init), sample=None, z_features=0,
      frozen=rest, frozen_spec={name: spec for name in rest},
      batch_spec=_shared.batch_spec(config, labels=scl.needs_labels(config),
                                    partners=bool(config.data.partners)),
      tokenizer=lambda: _tokenizer(config, network), sample_needs=(), export=export,
      microbatches=True)


def _check(config: ml_collections.ConfigDict) -> None:
  if config.model.trained not in TRAINED:
    raise UserError(f'--config.model.trained={config.model.trained}: choose one of '
                    f'{", ".join(TRAINED)}')
  if config.model.trained == 'heads' and not config.text.encoder:
    raise UserError('--config.model.trained=heads: the heads of an existing CLIP are tuned; name '
                    'it with --config.text.encoder, or set --config.model.trained=all')


def _tokenizer(config: ml_collections.ConfigDict, network: clip.Clip) -> Tokenizer:
  """That of the CLIP that is tuned, or one made of the captions of evenly chosen images."""
  if config.text.encoder:
    if config.model.trained == 'all':
      _clip.read(config.text.encoder)      # inside the program that begins with them, an error of
    return _clip.tokenizer(config, network)      # these weights would not be a sentence
  source = sources.load(config.data.name, 'train', config.model.size, **config.data.options)
  chosen = np.linspace(0, len(source) - 1, min(READ, len(source))).astype(int).tolist()
  text = clip_tokens.train((c for i in chosen for c in source.captions(i)), config.clip.pieces)
  return Tokenizer.parse(text, config.text.length, f'the tokenizer of {config.data.name}')
