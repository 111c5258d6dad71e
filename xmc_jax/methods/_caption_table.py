"""Embeddings of a data set's captions, computed once by the frozen text encoder."""
from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from xmc_jax.encoders import bert
from xmc_jax.methods._bert import FrozenBert
from xmc_jax.networks.base import Text
from xmc_jax.types import Array, Batch, Tree, UserError
from xmc_jax.utils.progress import Progress
from xmc_jax.weight_files import cache

ROWS = 128  # captions that are encoded at once
WIDTHS = 8  # they are padded to a multiple of it
TIES = 4    # captions that may have the same first key


def training_captions(config: ml_collections.ConfigDict, text: FrozenBert
                      ) -> tuple[Callable[[dict[str, Tree], Batch], Text],
                                 dict[str, Callable[[], Tree]], dict[str, Tree]]:
  """encode, of training captions, with `frozen` and `frozen_spec` of a `Method` for it.

  Without `config.text.cached`, encode is that of the text encoder.
  """
  frozen, frozen_spec = {'text': text.load}, {'text': text.spec}
  if not config.text.cached:
    return text.encode, frozen, frozen_spec
  encode, load, spec = table(config, text)
  return encode, frozen | {'captions': load}, frozen_spec | {'captions': spec}


def table(config: ml_collections.ConfigDict, text: FrozenBert
          ) -> tuple[Callable[[dict[str, Tree], Batch], Text], Callable[[], Tree], Tree]:
  """encode, load and spec of `frozen["captions"]`: the word embeddings of all training captions.

  encode gives what `text.encode` gives, in half precision, and finds a caption by its tokens. It
  knows only the captions of the train split, as they are written there.
  """
  from xmc_jax.data import source as sources  # it imports Pillow, which few methods need
  source = sources.load(config.data.name, 'train', config.model.size, **config.data.options)
  captions = sorted({c for i in range(len(source)) for c in source.captions(i)})
  n, length = len(captions), config.text.length

  def embed_all(tokens, mask, variables):
    words = np.zeros((n, length, text.features), np.float16)
    embed = jax.jit(lambda variables, tokens, mask: text.encode(
        {'text': variables}, {'tokens': tokens, 'mask': mask}).words)
    progress = Progress('captions encoded', n, quiet=jax.process_index() > 0)
    lengths = mask.sum(-1)
    order = np.argsort(lengths, kind='stable')      # short captions need fewer positions
    for start in range(0, n, ROWS):
      rows = order[np.minimum(np.arange(start, start + ROWS), n - 1)]
      width = min(length, WIDTHS * -(-int(lengths[rows[-1]]) // WIDTHS))
      words[rows, :width] = embed(variables, tokens[rows, :width], mask[rows, :width])
      progress.reach(min(start + ROWS, n))
    return {'words': words}

  def load():
    tokens, mask = text.tokenizer().encode(captions)
    keys, order = _sorted_keys(tokens)
    variables = text.load()
    facts = [jax.__version__, jax.devices()[0].device_kind, config.model.dtype, text.settings,
             tokens.tolist(), _sha256(variables)]
    words = cache.arrays('captions', facts, functools.partial(embed_all, tokens, mask, variables)
                         )['words']
    return {'keys': keys, 'words': words[order]}

  def encode(frozen, batch):
    table = frozen['captions']
    first, second = keys_of(batch['tokens']).T
    at = jnp.searchsorted(table['keys'][:, 0], first)[:, None] + jnp.arange(TIES)
    at = jnp.minimum(at, n - 1)
    same = (table['keys'][at] == jnp.stack([first, second], -1)[:, None]).all(-1)
    at = jnp.take_along_axis(at, jnp.argmax(same, -1)[:, None], -1)[:, 0]
    words = table['words'][at].astype(jnp.float32)
    return Text(words, batch['mask'], bert.sentence(words, batch['mask'], config.text.pool))

  spec = {'keys': jax.ShapeDtypeStruct((n, 2), jnp.int32),
          'words': jax.ShapeDtypeStruct((n, length, text.features), jnp.float16)}
  return encode, load, spec


def _sha256(tree: Tree) -> str:
  """Of all arrays of a tree."""
  digest = hashlib.sha256()
  for x in jax.tree.leaves(tree):
    digest.update(np.ascontiguousarray(x))
  return digest.hexdigest()


def keys_of(tokens: Array) -> Array:
  """Two numbers, int32 [b, 2], for each row of tokens [b, t]: sums times odd random numbers."""
  factors = np.random.Generator(np.random.Philox(0)).integers(2 ** 31, size=(2, tokens.shape[-1]))
  return jnp.sum(tokens[:, None] * jnp.asarray(factors | 1, jnp.int32), -1)


def _sorted_keys(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The keys of all captions [n, t] in rising order, and that order.

  Of many captions some share the first key; the second tells them apart. UserError where it does
  not, which hardly happens: the keys are numbers of 64 bits together.
  """
  keys = np.array(keys_of(tokens))
  _, first = np.unique(tokens, axis=0, return_index=True)
  _, ties = np.unique(keys[first, 0], return_counts=True)
  if len(np.unique(keys[first], axis=0)) < len(first) or ties.max() > TIES:
    raise UserError('--config.text.cached: captions of this set have the same keys; set it to '
                    'False')
  # Captions that are written differently may have the same tokens: one of them is found, the others
  # stand at the end.
  again = np.ones(len(keys), bool)
  again[first] = False
  keys[again] = np.iinfo(np.int32).max
  order = np.lexsort(keys.T[::-1])
  return keys[order], order
