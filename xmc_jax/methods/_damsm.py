"""A frozen DAMSM (`encoders/damsm.py`) as text encoder and image-text loss of a generator."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import ml_collections

from xmc_jax.config import negatives_group
from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import damsm
from xmc_jax.losses import damsm as losses
from xmc_jax.losses.groups import within
from xmc_jax.methods import _shared
from xmc_jax.methods._steps import Losses
from xmc_jax.networks.base import ForwardOutputs, Text
from xmc_jax.types import Array, Batch, Tree, UserError


def text_config(words: int) -> dict[str, object]:
  """The keys `config.text` of a method that reads with a DAMSM of a vocabulary of `words`."""
  return dict(
      encoder='',        # folder of the DAMSM: RUN/encoder of a run of a DAMSM config
      words=words,       # of its vocabulary, <end> too, used if the folder does not exist
      length=18,         # words of a caption
      script='latin')    # letters a sampled caption may have: 'latin' or 'any'


def loss_config(weight: float) -> dict[str, object]:
  """The keys of `config.terms` for `damsm_losses`, with the settings of AttnGAN's code."""
  return dict(
      damsm_words=weight, damsm_sentence=weight,
      damsm_mask_same_class=True,      # images with the same label are no negatives of each other
      gamma1=4.0, gamma2=5.0, gamma3=10.0)


def has_loss(weights: ml_collections.ConfigDict) -> bool:
  """Whether a loss needs the DAMSM's image encoder."""
  return bool(weights.get('damsm_words') or weights.get('damsm_sentence'))


def needs_labels(weights: ml_collections.ConfigDict) -> bool:
  """Whether these losses use labels."""
  return has_loss(weights) and bool(weights.damsm_mask_same_class)


def loss_options(config: ml_collections.ConfigDict) -> dict[str, object]:
  """Keyword arguments of `damsm_losses`."""
  w = config.terms
  return dict(group=negatives_group(config.negatives),
              mask_rule=_shared.mask_rule(config) if w.damsm_mask_same_class else '',
              gamma1=w.gamma1, gamma2=w.gamma2, gamma3=w.gamma3)


def damsm_losses(out: ForwardOutputs, *, group: int | None = None, mask_rule: str = '',
                 gamma1: float = losses.GAMMA1, gamma2: float = losses.GAMMA2,
                 gamma3: float = losses.GAMMA3) -> Losses:
  """L_DAMSM of fakes: each has to find its caption, by words and by the sentence.

  group: examples that contrast; None is the whole batch. mask_rule: the rule by which examples with
  the same label are no negatives; '' for none.
  """
  if out.fake_regions is None:      # built without the image encoder: all weights are 0
    return {}
  words, sentence = matching_losses(out, out.fake_regions, out.fake_embedding, group=group,
                                    mask_rule=mask_rule, gamma1=gamma1, gamma2=gamma2,
                                    gamma3=gamma3)
  return {'damsm_words': words, 'damsm_sentence': sentence}


def matching_losses(out: ForwardOutputs, regions: Array, embedding: Array, *, group: int | None,
                    mask_rule: str, gamma1: float, gamma2: float, gamma3: float
                    ) -> tuple[Array, Array]:
  """The word and the sentence loss of images, given as regions and embeddings, and captions."""
  labels = (out.batch['label'],) if mask_rule else ()
  words = functools.partial(losses.words, rule=mask_rule, gamma1=gamma1, gamma2=gamma2,
                            gamma3=gamma3)
  sentences = functools.partial(losses.sentences, rule=mask_rule, gamma3=gamma3)
  return (within(group, words)(regions, out.text.words, out.text.mask, *labels),
          within(group, sentences)(embedding, out.text.sentence, *labels))


@dataclasses.dataclass(frozen=True)
class FrozenDamsm:
  """A frozen DAMSM for a method and its networks: `frozen["text"]` and `frozen["image"]`.

  encode: (frozen, batch) -> Text. embed_images: (frozen, images [b, h, w, 3] in [0, 1]) ->
  (embedding [b, e], regions [b, n, e]), or None if no loss needs them. frozen, spec: as of
  `Method`.
  """
  features: int
  encode: Callable[[dict[str, Tree], Batch], Text]
  embed_images: Callable[[dict[str, Tree], Array], tuple[Array, Array]] | None
  frozen: dict[str, Callable[[], Tree]]
  spec: dict[str, Tree]
  tokenizer: Callable[[], Tokenizer]


def frozen_damsm(config: ml_collections.ConfigDict, *, embeds_images: bool) -> FrozenDamsm:
  """The DAMSM of `config.text`, with its image encoder if `embeds_images`. Reads no weights."""
  module, text = _network(config).clone(corners=config.image.corners), config.text

  def encode(frozen, batch):
    words, sentence = module.apply(frozen['text'], batch['tokens'], batch['mask'], method='text')
    return Text(words, batch['mask'], sentence)

  def read(*names):
    folder = damsm.find(text.encoder)
    variables = damsm.load(folder)[1]['params'] if damsm.BACKBONE in names else damsm.load_params(
        folder, damsm.sizes(folder))
    return {'params': {name: variables[name] for name in names}}

  parts = {'text': ('captions',)} | ({'image': ('images', damsm.BACKBONE)} if embeds_images else {})
  spec = damsm.spec(module)['params']
  return FrozenDamsm(
      features=module.width, encode=encode,
      embed_images=(lambda frozen, x: tuple(module.apply(frozen['image'], x, method='image')))
      if embeds_images else None,
      frozen={key: lambda names=names: read(*names) for key, names in parts.items()},
      spec={key: {'params': {name: spec[name] for name in names}} for key, names in parts.items()},
      tokenizer=lambda: Tokenizer(damsm.find(text.encoder), text.length,
                                  rows=module.vocabulary))


def _network(config: ml_collections.ConfigDict) -> damsm.Damsm:
  """The network in the folder, or one of the sizes in the config if there is none yet."""
  try:
    folder = damsm.find(config.text.encoder)
  except UserError:      # a missing folder is reported when its weights are read
    return damsm.Damsm(config.text.words, config.image.encoder)
  return damsm.sizes(folder)
