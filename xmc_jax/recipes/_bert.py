"""What recipes share whose captions a frozen BERT reads."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections

from xmc_jax.branch import Text
from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import bert, weights
from xmc_jax.types import Batch, Tree


@dataclasses.dataclass(frozen=True)
class Reader:
  """A frozen BERT for a backbone and its recipe: `frozen["text"]`.

  features: of a word and of a sentence. encode: (frozen, batch) -> Text. load, spec, tokenizer: as
  of `Recipe`.
  """
  features: int
  encode: Callable[[dict[str, Tree], Batch], Text]
  load: Callable[[], Tree]
  spec: Tree
  tokenizer: Callable[[], Tokenizer]


def reader(config: ml_collections.ConfigDict, dtype: jnp.dtype = jnp.float32) -> Reader:
  """The BERT of `config.text`, computing in `dtype`. No weights are read here."""
  name, text = config.text.encoder, config.text
  module = bert.Bert(**dataclasses.asdict(bert.sizes(name)), dtype=dtype)

  def encode(frozen, batch):
    words = module.apply(frozen['text'], batch['tokens'], batch['mask'])
    return Text(words, batch['mask'], bert.sentence(words, batch['mask'], text.pool))

  def load():
    folder = bert.find(name)
    weights.check_named(name, folder)
    return bert.load(folder)[1]

  row = lambda dtype: jax.ShapeDtypeStruct((1, text.length), dtype)
  spec = jax.eval_shape(module.init, jax.random.key(0), row(jnp.int32), row(jnp.bool_))
  return Reader(module.width, encode, load, spec, lambda: Tokenizer(bert.find(name), text.length))
