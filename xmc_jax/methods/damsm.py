"""DAMSM: deep attentional multimodal similarity model (arXiv 1711.10485, section 3.2).

An image-text encoder that is trained before the generators that read with it. One network,
"encoder", in one phase: words and sentences find their images and the other way round,
w0 + w1 + s0 + s1. With `data.partners` it is trained as the first step of supervised contrastive
learning, see `methods/scl.py`. `labels` classifies labels with a linear layer instead, and `unicl`
alone is UniCL's loss (arXiv 2204.03610): the two that the framework is compared with.

Unlike the released code of AttnGAN, BatchNorm statistics of the image network stay fixed
(`encoders/damsm.py`), and Adam's moments are kept; that code makes a new optimizer each epoch.
"""
from __future__ import annotations

import functools

import ml_collections
from ml_collections import config_dict

from xmc_jax import config as defaults
from xmc_jax.config import negatives_group
from xmc_jax.data import prepared, vocabulary
from xmc_jax.data import source as sources
from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import damsm, image_backbones
from xmc_jax.losses import damsm as losses
from xmc_jax.losses.contrastive import multi_positive
from xmc_jax.losses.labels import label_cross_entropy
from xmc_jax.methods import Method, _shared, scl
from xmc_jax.methods._damsm import matching_losses
from xmc_jax.methods._diagnostics import retrieval
from xmc_jax.methods._steps import Losses, make_phase
from xmc_jax.networks.base import ForwardOutputs
from xmc_jax.networks.damsm import DamsmNetworks
from xmc_jax.training.microbatches import Microbatches, check_microbatches
from xmc_jax.training.objective import Objective
from xmc_jax.types import UserError
from xmc_jax.utils import mirror


def config() -> ml_collections.ConfigDict:
  """The published settings of the released code for CUB; locked."""
  c = defaults.base()
  with c.unlocked():
    c.method = 'damsm'
    c.batch_size = 48
    c.model = dict(
        size=299,                  # side of the images, px
        embedding=300,             # features of a word before the LSTM
        width=256,                 # of the common space; half of it for each direction of the LSTM
        dropout=0.5,               # of embedded words
        dtype='float32', **_shared.label_config())
    c.text = dict(
        words=config_dict.placeholder(int),        # of the vocabulary, <end> too; None: counted
        length=18,                 # words of a caption
        script='latin')
    c.image.encoder = 'inception-torchvision'      # or 'squeezenet', 'vgg16-backbone'
    c.terms = dict(
        words=1.0, sentence=1.0,   # weights of the losses; one of weight 0 is not computed
        gamma1=4.0, gamma2=5.0, gamma3=10.0,
        supcon_words=0.0,          # words and regions of examples with the same label
        **scl.encoder_loss_config())
    c.optim = dict(encoder=dict(
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


def encoder_losses(out: ForwardOutputs, *, group: int | None = None, mask_rule: str = '',
                   label_rule: str = '', **gammas: float) -> Losses:
  """w0 + w1 and s0 + s1 of real images and their captions.

  group: examples that contrast; None is the whole batch. mask_rule: the rule by which examples with
  the same label are no negatives. label_rule: the rule of `supcon_words`, which compares the words
  and regions of one branch only; those of both would cost twice as much. '' for none.
  """
  words, sentence = matching_losses(out, out.real_regions, out.real_embedding, group=group,
                                    mask_rule=mask_rule, **gammas)
  found = {'words': words, 'sentence': sentence}
  if label_rule:
    scores = losses.word_scores(out.real_regions, out.text.words, out.text.mask,
                                gamma1=gammas['gamma1'], gamma2=gammas['gamma2'])
    found['supcon_words'] = multi_positive(gammas['gamma3'] * scores,
                                           scl.positives((out,), label_rule))
  return found | label_losses(out)


def label_losses(out: ForwardOutputs) -> Losses:
  """Cross-entropy of the label classifiers of both embeddings, where there are any."""
  if not out.label_logits:
    return {}
  return {'labels': sum(label_cross_entropy(x, out.batch['label']) for x in out.label_logits)}


def build(config: ml_collections.ConfigDict) -> Method:
  """DAMSM of `config`; its vocabulary is counted if `text.words` is None."""
  if config.model.dtype != 'float32':
    raise UserError(f'--config.model.dtype={config.model.dtype}: DAMSM computes in float32')
  if config.model.width % 2:      # half of the features read the caption in each direction
    raise UserError(f'--config.model.width={config.model.width}: must be even for a DAMSM')
  w, extension = config.terms, scl.encoder_extension(config)
  words = config.text.words or _vocabulary(config).size
  network = damsm.Damsm(words, config.image.encoder, config.model.embedding, config.model.width,
                        config.model.dropout, config.image.corners)
  networks = DamsmNetworks(network, config.model.classes if w.labels else 0)
  microbatches = Microbatches(config.microbatches, group=1)      # the networks mix no examples
  check_microbatches(microbatches, config.batch_size)
  loss = functools.partial(
      encoder_losses, group=negatives_group(config.negatives), mask_rule=scl.mask_rule(config),
      label_rule=scl.label_rule(config) if w.supcon_words else '',
      gamma1=w.gamma1, gamma2=w.gamma2, gamma3=w.gamma3)
  phase = make_phase('match', {'encoder': loss}, w, networks, extension=extension,
                     microbatches=microbatches, diagnostics=retrieval)

  def export(folder, params, tokenizer):
    trained = {k: params['encoder'][k] for k in ('captions', 'images')}
    damsm.save(folder / 'encoder', network, trained, tokenizer.text())

  backbone = image_backbones.find(config.image.encoder)
  return Method(
      objective=Objective(((phase,),), networks.init), sample=None, z_features=0,
      frozen={'image': backbone.load}, frozen_spec={'image': backbone.spec},
      batch_spec=_shared.batch_spec(config, labels=scl.needs_labels(config),
                                    partners=bool(config.data.partners)), sample_needs=(),
      tokenizer=functools.partial(_tokenizer, config), export=export, microbatches=True)


def _vocabulary(config: ml_collections.ConfigDict) -> Tokenizer:
  """That of the prepared data set, or all words of the captions of both splits."""
  name, size, options = config.data.name, config.model.size, config.data.options
  folder = options.get('folder') or (prepared.find(name, size) if name in sources.PREPARED else '')
  if folder:
    return Tokenizer(mirror.local(folder, '--config.data.options.folder'), config.text.length)
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
