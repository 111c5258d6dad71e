"""CLIP (arXiv 2103.00020), trained or tuned before the generators that read with it.

One player, "towers", in one phase: captions find their pictures and the other way round, InfoNCE
among all rows. What GALIP's counterpart of the pre-training of a supervised contrastive framework
is, no text that we could read says; here it is the terms of `_alike`, on top of the contrast, on
the heads of a published CLIP (`model.trained` = 'heads'), or on all of it.

With `text.encoder` = '' a CLIP of the sizes `config.clip` begins at random, with a tokeniser of the
training captions: so small ones are made for CPUs. What differs from CLIP then: the temperature is
given instead of learnt, the plain Adam has no weight decay, and after `warmup` the rate stays. Do
not leave the warm-up out: from random weights all codes would fall together before they part.
"""
from __future__ import annotations

import ml_collections
import numpy as np

from xmc_jax import config as defaults
from xmc_jax.backbones.clip import ClipBackbone, without_heads
from xmc_jax.config import contrast_rows
from xmc_jax.data import source as sources
from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import clip, clip_tokens
from xmc_jax.engine.objective import Objective
from xmc_jax.objectives import terms as t
from xmc_jax.objectives.parts import Parts, check_parts
from xmc_jax.objectives.play import play
from xmc_jax.objectives.splits import one_view, two_views
from xmc_jax.recipes import Recipe, _alike, _clip, _shared
from xmc_jax.types import UserError

TRAINED = ('all', 'heads')
small = _clip.small      # sizes for CPUs, for configs
READ = 5000       # pictures whose captions a new tokeniser is made of


def config() -> ml_collections.ConfigDict:
  """Heads of the published ViT-B/32, tuned; the settings are ours; locked."""
  c = defaults.base()
  with c.unlocked():
    c.recipe = 'clip'
    c.model = dict(
        size=224,                  # side of the pictures, px
        trained='heads',           # linear maps into the common space, or 'all'
        clip_input='single',       # pictures normalised once, or 'released': as GALIP's code
        dtype='float32', **_shared.label_config())
    c.clip = _clip.sizes()
    c.text = _clip.text_config()       # an encoder '' is one to be made
    c.terms = dict(
        contrast=1.0,              # of pairs, from pictures to captions plus the other way round
        contrast_temperature=0.01, **_alike.term_config())
    c.optim = dict(towers=dict(lr=1e-4, b1=0.9, b2=0.98, warmup=0))
    del c['image']
  return c


def build(config: ml_collections.ConfigDict) -> Recipe:
  m, w, encoder = config.model, config.terms, config.text.encoder
  _check(config)
  _alike.check(config)
  only, network = m.trained == 'heads', _clip.network(config)
  start = (lambda: _clip.read(encoder)['params']) if encoder else None
  rest = {'clip': lambda: {'params': without_heads(start())}} if only else {}
  backbone = ClipBackbone(network, start, only, m.clip_input, m.classes if w.labels else 0)
  parts = Parts(config.accumulate, group=1)      # the networks mix no rows
  check_parts(parts, config.batch_size)
  terms = (t.Term('contrast', w.contrast, t.damsm_sentence_real(
      contrast_rows(config.negatives), _alike.mask(config), gamma3=1 / w.contrast_temperature)),
           *_alike.terms(config))
  phase = play('match', ('towers',), backbone, {'towers': terms}, parts=parts, meters=t.retrieval,
               split=two_views if config.data.partners else one_view)

  def export(folder, params, tokenizer):
    whole = backbone.whole(params['towers'], {name: load() for name, load in rest.items()})
    clip.save(folder / 'encoder', network.config, {'params': whole}, tokenizer.text(),
              w.contrast_temperature)

  spec = {'params': without_heads(clip.spec(network)['params'])}
  return Recipe(
      objective=Objective(((phase,),), backbone.init), sample=None, z_features=0,
      frozen=rest, frozen_spec={name: spec for name in rest},
      batch_spec=_shared.batch_spec(config, labels=_alike.labelled(config),
                                    partners=bool(config.data.partners)),
      tokenizer=lambda: _tokenizer(config), sample_needs=(), export=export)


def _check(config: ml_collections.ConfigDict) -> None:
  if config.model.trained not in TRAINED:
    raise UserError(f'--config.model.trained={config.model.trained}: choose one of '
                    f'{", ".join(TRAINED)}')
  if config.model.trained == 'heads' and not config.text.encoder:
    raise UserError('--config.model.trained=heads: they are tuned of a CLIP that there is; name it '
                    'with --config.text.encoder, or train all')
  if not config.terms.contrast_temperature > 0:
    raise UserError(f'--config.terms.contrast_temperature={config.terms.contrast_temperature}: it '
                    'must be above 0')


def _tokenizer(config: ml_collections.ConfigDict) -> Tokenizer:
  """That of the CLIP that is tuned, or one made of the captions of evenly chosen pictures."""
  if config.text.encoder:
    return Tokenizer(clip.find(config.text.encoder), config.text.length)
  source = sources.load(config.data.name, 'train', config.model.size, **config.data.options)
  chosen = np.linspace(0, len(source) - 1, min(READ, len(source))).astype(int).tolist()
  text = clip_tokens.train((c for i in chosen for c in source.captions(i)), config.clip.pieces)
  return Tokenizer.parse(text, config.text.length, f'the tokeniser of {config.data.name}')
