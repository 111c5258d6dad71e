"""Copies a run's text encoder into a model folder, in fewer bits and with fewer word pieces."""
from __future__ import annotations

import json
import os
import pathlib

import jax.numpy as jnp
import numpy as np

from xmc_jax.data import source as sources
from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import bert, clip, damsm
from xmc_jax.pretrained import vocabulary
from xmc_jax.types import UserError
from xmc_jax.weight_files import hf_folders, int8

# How each kind of encoder is found, and the axis of the outputs in the matrices of its file.
_KINDS = {'BERT': (bert.find, 0), 'CLIP': (clip.find, 0), 'words': (damsm.find, -1)}
_WORDS, _POSITIONS = (f'embeddings.{kind}_embeddings.weight' for kind in ('word', 'position'))


def export(source: str | os.PathLike[str], folder: pathlib.Path, tokenizer: Tokenizer, dtype: str,
           numbers: list[int] | None = None) -> str:
  """Writes the text encoder at `source`, a name or a folder, to `folder`.

  Args:
    source, folder: see above.
    tokenizer: of the captions.
    dtype: one of `int8.DTYPES`.
    numbers: the word pieces that stay, for a BERT, with the positions of the captions' length;
      None: all of both.
  Returns:
    The tokenizer.json that belongs to it.
  Raises:
    UserError: the encoder is not found, or a file of it is damaged.
  """
  find, outputs = _KINDS[tokenizer.kind]
  found, text = find(source), tokenizer.text()
  config = json.loads((found / 'config.json').read_text(encoding='utf-8'))
  tensors = hf_folders.read_weights(hf_folders.weights_file(found))
  if tokenizer.kind == 'BERT':
    tensors = _bert_alone(tensors)
    if numbers is not None:
      text = vocabulary.cut(text, numbers)
      tensors[_WORDS] = tensors[_WORDS][numbers]
      tensors[_POSITIONS] = tensors[_POSITIONS][:tokenizer.length]
      config |= {'vocab_size': len(numbers), 'max_position_embeddings': tokenizer.length}
  hf_folders.write(folder, config, int8.pack(tensors, dtype, outputs), text)
  return text


def _bert_alone(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """A BERT's embeddings and layers, by their usual names, without pooler and task heads."""
  prefix = next(name for name in tensors if name.endswith(_WORDS)).removesuffix(_WORDS)
  return {name.removeprefix(prefix): x for name, x in tensors.items()
          if name.startswith((f'{prefix}embeddings.', f'{prefix}encoder.'))
          and jnp.issubdtype(x.dtype, jnp.floating)}


def pieces_of_data(config, tokenizer: Tokenizer, data: str | os.PathLike[str] | None = None
                   ) -> list[int]:
  """The word pieces that stay in the vocabulary: of all captions of the run's data set, and others.

  data: folder of the prepared set, if it is not where the config says.

  Raises:
    UserError: the captions are not read by a BERT, or the data set is not here.
  """
  if tokenizer.kind != 'BERT':
    raise UserError('--cut: the text encoder of this run is no BERT, and only word pieces can be '
                    'cut; leave --cut out')
  used: set[int] = set()
  options = config.data.options.to_dict() | ({'folder': str(data)} if data else {})
  for split in sources.SPLITS:
    source = sources.load(config.data.name, split, config.model.size, **options)
    captions = {caption for i in range(len(source)) for caption in source.captions(i)}
    used |= tokenizer.pieces(captions)
  return vocabulary.kept(tokenizer.text(), used, config.text.script)
