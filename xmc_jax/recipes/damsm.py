"""DAMSM (arXiv 1711.10485): an image-text encoder, trained before the generators that read with it.

One player, "towers", in one phase: words and sentences find their pictures and the other way round,
w0 + w1 + s0 + s1. With `data.partners` every row has a partner of like label, and the losses are
those of two branches; the terms `alike_…` then draw together what has the same label, captions,
pictures and pairs, as the supervised contrastive framework (arXiv 2412.03957) does before it trains
its generators. We could read no text with its equations: terms, weights and temperatures are our
reconstruction. `labels` tells labels by a linear classifier instead, and `alike_pairs` alone is
UniCL's loss (arXiv 2204.03610): the two that the framework is compared with.

What differs from the released code of AttnGAN: statistics of the image network stay fixed
(`encoders.damsm`); moments of Adam are kept, where the code makes a new optimiser each epoch.
"""
from __future__ import annotations

import functools

import ml_collections
from ml_collections import config_dict

from xmc_jax import config as defaults
from xmc_jax.backbones.damsm import DamsmBackbone
from xmc_jax.config import contrast_rows
from xmc_jax.data import prepared
from xmc_jax.data import source as sources
from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import damsm, trunks
from xmc_jax.engine.objective import Objective
from xmc_jax.objectives import terms as t
from xmc_jax.objectives.parts import Parts, check_parts
from xmc_jax.objectives.play import play
from xmc_jax.objectives.splits import one_view, two_views
from xmc_jax.prepare import vocabulary
from xmc_jax.recipes import Recipe, _alike, _shared
from xmc_jax.types import UserError


def config() -> ml_collections.ConfigDict:
  """The published settings of the released code for CUB; locked."""
  c = defaults.base()
  with c.unlocked():
    c.recipe = 'damsm'
    c.batch_size = 48
    c.model = dict(
        size=299,                  # side of the pictures, px
        embedding=300,             # features of a word before the LSTM
        width=256,                 # of the common space; half of it for each direction of the LSTM
        dropout=0.5,               # of embedded words
        dtype='float32', **_shared.label_config())
    c.text = dict(
        words=config_dict.placeholder(int),        # of the vocabulary, <end> too; None: counted
        length=18,                 # words of a caption
        script='latin')
    c.image.encoder = 'inception-torchvision'      # or 'squeezenet', 'vgg16-trunk'
    c.terms = dict(
        words=1.0, sentence=1.0,
        gamma1=4.0, gamma2=5.0, gamma3=10.0,
        alike_words=0.0,           # words of like label; the other terms of labels:
        **_alike.term_config())
    c.optim = dict(towers=dict(
        lr=2e-3, b1=0.5, b2=0.999,
        decay=dict(rate=0.98, every=184, least=2e-4),      # every epoch
        clip=dict(norm=0.25, of='captions')))
  return c


# Words of the embedded sets' captions, <end> too.
_WORDS = {'emoji': 2_624, 'emoji_scenes': 273}


def small(config: ml_collections.ConfigDict) -> None:
  """Gives `config`, of an embedded set, a DAMSM for CPUs: to be trained or to be read with."""
  config.text.words = _WORDS[config.data.name]
  config.image.encoder = 'squeezenet'


def build(config: ml_collections.ConfigDict) -> Recipe:
  """The recipe of `config`; its text vocabulary is counted if `text.words` is None."""
  w, views = config.terms, two_views if config.data.partners else one_view
  _alike.check(config)
  words = config.text.words or _vocabulary(config).size
  network = damsm.Damsm(words, config.image.encoder, config.model.embedding, config.model.width,
                        config.model.dropout)
  backbone = DamsmBackbone(network, config.model.classes if w.labels else 0)
  parts = Parts(config.accumulate, group=1)      # the networks mix no rows
  check_parts(parts, config.batch_size)
  phase = play('match', ('towers',), backbone, {'towers': _terms(config)}, split=views,
               parts=parts, meters=t.retrieval)

  def export(folder, params, tokenizer):
    trained = {k: params['towers'][k] for k in ('captions', 'pictures')}
    damsm.save(folder / 'encoder', network, trained, tokenizer.text())

  trunk = trunks.find(config.image.encoder)
  return Recipe(
      objective=Objective(((phase,),), backbone.init), sample=None, z_features=0,
      frozen={'image': trunk.load}, frozen_spec={'image': trunk.spec},
      batch_spec=_shared.batch_spec(config, labels=_alike.labelled(config),
                                    partners=bool(config.data.partners)), sample_needs=(),
      tokenizer=functools.partial(_tokenizer, config), export=export)


def _terms(config: ml_collections.ConfigDict) -> tuple[t.Term, ...]:
  w, rule, mask = config.terms, _alike.rule(config), _alike.mask(config)
  among = contrast_rows(config.negatives)
  gammas = dict(gamma1=w.gamma1, gamma2=w.gamma2, gamma3=w.gamma3)
  return (
      t.Term('words', w.words, t.damsm_words_real(among, mask, **gammas)),
      t.Term('sentence', w.sentence, t.damsm_sentence_real(among, mask, gamma3=w.gamma3)),
      t.Term('alike_words', w.alike_words, t.alike_words_real(rule, **gammas)),
      *_alike.terms(config))


def _vocabulary(config: ml_collections.ConfigDict) -> Tokenizer:
  """That of the prepared data set, or all words of the captions of both splits."""
  name, size, options = config.data.name, config.model.size, config.data.options
  folder = options.get('folder') or (prepared.find(name, size) if name in sources.PREPARED else '')
  if folder:
    return Tokenizer(folder, config.text.length)
  splits = [sources.load(name, split, size, **options) for split in sources.SPLITS]
  words = vocabulary.collect(
      caption for split in splits for i in range(len(split)) for caption in split.captions(i))
  return Tokenizer.parse(vocabulary.word_level(words).to_str(), config.text.length,
                         f'the vocabulary of {name}')


def _tokenizer(config: ml_collections.ConfigDict) -> Tokenizer:
  tokenizer = _vocabulary(config)
  if config.text.words not in (None, tokenizer.size):
    raise UserError(f'--config.text.words={config.text.words}: the data set {config.data.name} has '
                    f'{tokenizer.size} words, <end> included; give that number')
  return tokenizer
