"""A frozen BERT as the text encoder of a method."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import bert, registry
from xmc_jax.networks.base import Text
from xmc_jax.types import Batch, Tree


def text_config() -> dict[str, object]:
  """The keys `config.text`."""
  return dict(
      encoder='bert-base-uncased',   # or 'all-MiniLM-L6-v2', or the folder of another BERT
      length=17,                     # word pieces of a caption, CLS and SEP included
      pool='masked_mean',            # sentence embedding: 'masked_mean' or 'released'
      script='latin',                # letters a sampled caption may have: 'latin' or 'any'
      cached=False)                  # training captions are encoded once, before the training


@dataclasses.dataclass(frozen=True)
class FrozenBert:
  """A frozen BERT for a method and its networks: `frozen["text"]`.

  features: of a word embedding and of the sentence embedding. encode: (frozen, batch) -> Text.
  load, spec, tokenizer, settings: as of `Method`.
  """
  features: int
  encode: Callable[[dict[str, Tree], Batch], Text]
  load: Callable[[], Tree]
  spec: Tree
  tokenizer: Callable[[], Tokenizer]
  settings: dict[str, Any]


def frozen_bert(config: ml_collections.ConfigDict, dtype: jnp.dtype = jnp.float32) -> FrozenBert:
  """The BERT of `config.text`, computing in `dtype`. No weights are read here."""
  name, text = config.text.encoder, config.text
  settings = dataclasses.asdict(bert.sizes(name))
  module = bert.Bert(**settings, dtype=dtype)

  def encode(frozen, batch):
    words = module.apply(frozen['text'], batch['tokens'], batch['mask'])
    return Text(words, batch['mask'], bert.sentence(words, batch['mask'], text.pool))

  def load():
    folder = bert.find(name)
    registry.check_named(name, folder)
    return bert.load(folder)[1]

  row = lambda dtype: jax.ShapeDtypeStruct((1, text.length), dtype)
  spec = jax.eval_shape(module.init, jax.random.key(0), row(jnp.int32), row(jnp.bool_))
  return FrozenBert(module.width, encode, load, spec,
                    lambda: Tokenizer(bert.find(name), text.length, rows=module.vocabulary),
                    settings)
