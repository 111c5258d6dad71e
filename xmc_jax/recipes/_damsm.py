"""What recipes share whose captions and pictures a frozen DAMSM reads (`encoders/damsm.py`)."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import ml_collections

from xmc_jax.branch import Text
from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import damsm
from xmc_jax.objectives import terms as t
from xmc_jax.recipes import _shared
from xmc_jax.types import Array, Batch, Tree, UserError


def text_config(words: int) -> dict[str, object]:
  """The keys `config.text` of a family that reads with a DAMSM; `words` of the vocabulary."""
  return dict(
      encoder='',        # folder of the DAMSM: RUN/encoder of a run of a DAMSM config
      words=words,       # of its vocabulary, <end> too, as long as the folder is not there
      length=18,         # words of a caption
      script='latin')    # letters a sampled caption may have: 'latin' or 'any'


def term_config(weight: float) -> dict[str, object]:
  """The keys of `config.terms` that `terms` reads, with the settings of AttnGAN's code."""
  return dict(
      damsm=weight,              # fakes find their captions, by words and by sentences
      damsm_mask=True,           # pictures of like label are no negatives
      gamma1=4.0, gamma2=5.0, gamma3=10.0)


@dataclasses.dataclass(frozen=True)
class Reader:
  """A frozen DAMSM for a backbone and its recipe: `frozen["text"]` and `frozen["image"]`.

  encode: (frozen, batch) -> Text. look: (frozen, pictures [b, h, w, 3] in [0, 1]) -> (code [b, e],
  regions [b, n, e]), or None where no term looks at pictures. frozen, spec: as of `Recipe`.
  """
  features: int
  encode: Callable[[dict[str, Tree], Batch], Text]
  look: Callable[[dict[str, Tree], Array], tuple[Array, Array]] | None
  frozen: dict[str, Callable[[], Tree]]
  spec: dict[str, Tree]
  tokenizer: Callable[[], Tokenizer]


def reader(config: ml_collections.ConfigDict, *, look: bool) -> Reader:
  """The DAMSM of `config.text`; `look`: it judges pictures too. No weights are read here."""
  module, text = _network(config), config.text

  def encode(frozen, batch):
    words, sentence = module.apply(frozen['text'], batch['tokens'], batch['mask'], method='text')
    return Text(words, batch['mask'], sentence)

  def read(*names):
    folder = damsm.find(text.encoder)
    variables = damsm.load(folder)[1]['params'] if damsm.TRUNK in names else damsm.load_params(
        folder, damsm.sizes(folder))
    return {'params': {name: variables[name] for name in names}}

  parts = {'text': ('captions',)} | ({'image': ('pictures', damsm.TRUNK)} if look else {})
  spec = damsm.spec(module)['params']
  return Reader(
      features=module.width, encode=encode,
      look=(lambda frozen, x: tuple(module.apply(frozen['image'], x, method='image')))
      if look else None,
      frozen={key: lambda names=names: read(*names) for key, names in parts.items()},
      spec={key: {'params': {name: spec[name] for name in names}} for key, names in parts.items()},
      tokenizer=lambda: Tokenizer(damsm.find(text.encoder), text.length))


def _network(config: ml_collections.ConfigDict) -> damsm.Damsm:
  """The network of the folder; as long as there is none, of the sizes that the config tells."""
  try:
    folder = damsm.find(config.text.encoder)
  except UserError:      # of a folder that is missing, reading the weights will tell
    return damsm.Damsm(config.text.words, config.image.encoder)
  return damsm.sizes(folder)


def terms(config: ml_collections.ConfigDict, among: int | None) -> tuple[t.Term, ...]:
  """The generator's terms: fakes find their captions among `among` rows, None: all."""
  w = config.terms
  rule = _shared.mask_rule(config) if w.damsm_mask else ''
  return (
      t.Term('damsm_words', w.damsm, t.damsm_words_fake(
          among, rule, gamma1=w.gamma1, gamma2=w.gamma2, gamma3=w.gamma3)),
      t.Term('damsm_sentence', w.damsm, t.damsm_sentence_fake(among, rule, gamma3=w.gamma3)))
