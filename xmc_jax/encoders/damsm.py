"""DAMSM: images and captions, places and words, in one space; trained before the generator.

Xu et al., "AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative Adversarial
Networks" (arXiv 1711.10485): a bidirectional LSTM over words, and an Inception-v3 of ImageNet that
is not trained, with two linear maps on top of it that are. AttnGAN, DM-GAN and SSA-GAN read
captions and judge images with it. A training run of the method `damsm` writes a folder of three
files, `config.json`, `model.safetensors` and `tokenizer.json`:

  module, variables = damsm.load(damsm.find('runs/damsm_emoji'))
  words, sentence = module.apply(variables, tokens, mask, method='text')
  code, regions = module.apply(variables, images, method='image')

The image network's own weights are not in the folder; it names their hash.

The image network keeps its statistics of BatchNorm. In the released code it is in training mode
while DAMSM is trained, so that its running statistics drift to those of the data set, and the saved
file has them. Smaller image networks, for CPUs, are ours (`backbones`).
"""
from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util

from xmc_jax.encoders import image_backbones
from xmc_jax.encoders.lstm import BiLstm
from xmc_jax.types import Array, Tree, UserError
from xmc_jax.weight_files import files

FILES = ('config.json', 'model.safetensors', 'tokenizer.json')
SPREAD = 0.1          # of what embeddings and the two maps begin with: uniform in +-0.1
BACKBONE = 'backbone'       # of the parameters, those that are not trained


class Words(NamedTuple):
  """Captions: words float32 [b, t, e], 0 at padding; sentence float32 [b, e]."""

  words: Array
  sentence: Array


class Look(NamedTuple):
  """Images: code float32 [b, e]; regions float32 [b, n, e], n row by row."""

  code: Array
  regions: Array


class Captions(nn.Module):
  """The text encoder, of `vocabulary` words; `width` is e, half of it for each direction."""

  vocabulary: int
  embedding: int = 300
  width: int = 256
  dropout: float = 0.5      # share of the features of embedded words, in training

  @nn.compact
  def __call__(self, tokens: Array, mask: Array, rngs: Array | None = None) -> Words:
    """tokens int32 [b, t] and mask bool [b, t]; with `rngs`, a key [b] for each row, words drop."""
    x = nn.Embed(self.vocabulary, self.embedding, embedding_init=_uniform, name='embed')(tokens)
    if rngs is not None:
      keep = 1 - self.dropout
      kept = jax.vmap(lambda rng: jax.random.bernoulli(rng, keep, x.shape[1:]))(rngs)
      x = jnp.where(kept, x / keep, 0)
    return Words(*BiLstm(self.width // 2, name='lstm')(x, mask))


class Images(nn.Module):
  """The two linear maps on top of an image network: of regions without a bias, of the pool with."""

  width: int = 256

  @nn.compact
  def __call__(self, regions: Array, pool: Array) -> Look:
    dense = lambda name, bias: nn.Dense(self.width, bias, kernel_init=_uniform, bias_init=_uniform,
                                        name=name)
    return Look(dense('code', True)(pool), dense('regions', False)(regions))


class Damsm(nn.Module):
  """Both encoders. Parameters `captions` and `images` are trained, `backbone` is given."""

  vocabulary: int
  backbone_name: str
  embedding: int = 300
  width: int = 256
  dropout: float = 0.5

  def setup(self):
    self.captions = Captions(self.vocabulary, self.embedding, self.width, self.dropout)
    self.images = Images(self.width)

  def text(self, tokens: Array, mask: Array, rngs: Array | None = None) -> Words:
    """tokens int32 [b, t], mask bool [b, t], True where there is text; `rngs` in training."""
    return self.captions(tokens, mask, rngs)

  def image(self, images: Array) -> Look:
    """images float [b, h, w, 3] in [0, 1], of any size."""
    backbone = image_backbones.find(self.backbone_name)
    return self.images(*backbone.feature_maps({'params': self.get_variable('params', BACKBONE)}, images))

  def heads(self, tokens: Array, mask: Array, regions: Array, pool: Array) -> None:
    """Passes through all that is trained, for `init`."""
    self.captions(tokens, mask)
    self.images(regions, pool)


def create(module: Damsm, rng: Array) -> Tree:
  """Parameters of both sides, as training begins with them, without the backbone."""
  regions, pool = image_backbones.find(module.backbone_name).shapes()
  return module.init(rng, jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool),
                     jnp.zeros((1, *regions)), jnp.zeros((1, pool)), method='heads')['params']


def _uniform(rng: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
  return jax.random.uniform(rng, shape, dtype, -SPREAD, SPREAD)


def with_backbone(params: Tree, backbone: Tree) -> Tree:
  """Variables for `Damsm.apply`: what is trained, and what `backbones.Backbone.load` gives."""
  return {'params': {**params, BACKBONE: backbone['params']}}


def spec(module: Damsm) -> Tree:
  """Shapes of the variables, known without files."""
  return with_backbone(_trained_spec(module), image_backbones.find(module.backbone_name).spec)


def _trained_spec(module: Damsm) -> Tree:
  return jax.eval_shape(functools.partial(create, module), jax.random.key(0))


def find(path: str | os.PathLike[str]) -> pathlib.Path:
  """The folder of a trained DAMSM: itself, or that of the run that has it under `encoder`.

  Raises:
    UserError: there is no such folder, or one of its three files is missing.
  """
  path = pathlib.Path(path).expanduser()
  folder = path if (path / FILES[0]).is_file() and (path / FILES[1]).is_file() else path / 'encoder'
  for name in FILES:
    if not (folder / name).is_file():
      raise UserError(f'There is no DAMSM in {path}: {folder / name} is missing; give the folder '
                      'of a run of a DAMSM config, for instance that of configs/damsm_emoji.py.')
  return folder


def sizes(folder: str | os.PathLike[str]) -> Damsm:
  """The network that the `config.json` of a folder describes; UserError if it describes none."""
  path = pathlib.Path(folder, FILES[0])
  with files.reading(path):
    known = json.loads(path.read_text(encoding='utf-8'))
    if known['model_type'] != 'damsm':
      raise ValueError(f'it is of a {known["model_type"]}, not of a DAMSM')
    return Damsm(**{f.name: known[f.name] for f in dataclasses.fields(Damsm) if f.name in known})


def load(folder: str | os.PathLike[str]) -> tuple[Damsm, Tree]:
  """The network of a folder and all its weights, the image network's too.

  Raises:
    UserError: a file is missing or damaged; or the image network's weights are missing, or are not
      those that it was trained with.
  """
  module, folder = sizes(folder), pathlib.Path(folder)
  known = json.loads((folder / FILES[0]).read_text(encoding='utf-8'))
  backbone = image_backbones.find(module.backbone_name)
  if backbone.sha256() != known['backbone_sha256']:
    raise UserError(f'The weights {backbone.name} that are found here are not those that the DAMSM in '
                    f'{folder} was trained with, whose sha256 is {known["backbone_sha256"]}; put '
                    'that file in the folder XMC_JAX_WEIGHTS.')
  return module, with_backbone(load_params(folder, module), backbone.load())


def load_params(folder: str | os.PathLike[str], module: Damsm) -> Tree:
  """What was trained of `module`, from the folder; UserError if the file is another's."""
  path = pathlib.Path(folder, FILES[1])
  found = files.read_safetensors(path)
  wanted = traverse_util.flatten_dict(_trained_spec(module), sep='/')
  if {k: x.shape for k, x in found.items()} != {k: x.shape for k, x in wanted.items()}:
    raise UserError(f'The weights {path} are not those of the DAMSM of its config.json.')
  params = {name: jnp.asarray(x, jnp.float32) for name, x in found.items()}
  return traverse_util.unflatten_dict(params, sep='/')


def save(folder: os.PathLike[str], module: Damsm, params: Tree, tokenizer: str) -> None:
  """Writes the folder: `params` as `create` makes them, and the text of the `tokenizer.json`."""
  known = {f.name: getattr(module, f.name) for f in dataclasses.fields(module)
           if f.name not in ('parent', 'name')}
  config = {'model_type': 'damsm', **known,
            'backbone_sha256': image_backbones.find(module.backbone_name).sha256()}
  flat = traverse_util.flatten_dict(jax.device_get(params), sep='/')
  files.write_folder(folder, config, flat, tokenizer)
