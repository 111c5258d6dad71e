"""Captions of training with their embeddings, among which a sample's caption finds the nearest."""
from __future__ import annotations

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from xmc_jax.methods._bert import FrozenBert
from xmc_jax.types import Tree
from xmc_jax.utils.arrays import unit
from xmc_jax.utils.hashing import json_sha256
from xmc_jax.weight_files import cache, files

ROWS = 128      # captions that are encoded at once


def table(config: ml_collections.ConfigDict, text: FrozenBert, tokenizer, variables: Tree) -> Tree:
  """All captions of the training images.

  Args:
    tokenizer: of the run. variables: of the text encoder.
  Returns:
    tokens int32 [n, t], mask bool [n, t], and their sentence embeddings of length one, float32
    [n, e].
  """
  from xmc_jax.data import source as sources  # it imports Pillow, which few methods need
  source = sources.load(config.data.name, 'train', config.model.size, **config.data.options)
  captions = {caption for i in range(len(source)) for caption in source.captions(i)}
  tokens, mask = tokenizer.encode(sorted(captions))

  def embed():
    encode = jax.jit(lambda variables, tokens, mask: text.encode(
        {'text': variables}, {'tokens': tokens, 'mask': mask}).sentence)
    found = []
    for start in range(0, len(tokens), ROWS):
      rows = np.minimum(np.arange(start, start + ROWS), len(tokens) - 1)
      found.append(encode(variables, tokens[rows], mask[rows]))
    return {'sentence': np.asarray(unit(jnp.concatenate(found)))[:len(tokens)]}
  facts = [jax.__version__, jax.devices()[0].device_kind, config.model.dtype, config.text.pool,
           text.settings, json_sha256(tokens.tolist()),
           files.fingerprint(jax.device_get(variables))]
  return cache.arrays('known_captions', facts, embed) | {'tokens': tokens, 'mask': mask}
