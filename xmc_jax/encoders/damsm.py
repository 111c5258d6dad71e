"""DAMSM: embeds images and captions, and their regions and words, in one space.

Xu et al., "AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative Adversarial
Networks" (arXiv 1711.10485). The text encoder is a bidirectional LSTM over words. The image encoder
is a frozen Inception-v3 of ImageNet with two trained linear projections on top. DAMSM is trained
before the generator. AttnGAN, DM-GAN, DF-GAN and SSA-GAN use it as their text encoder, and all but
DF-GAN in their losses.
A training run of the method `damsm` writes a folder of three files, `config.json`,
`model.safetensors` and `tokenizer.json`:

  module, variables = damsm.load(damsm.find('runs/damsm_emoji'))
  words, sentence = module.apply(variables, tokens, mask, method='text')
  embedding, regions = module.apply(variables, images, method='image')

The folder contains the hash of the backbone's weights. The weights themselves are in it only if
they are the DAMSM's own (`backbone.safetensors`).

The BatchNorm statistics of the backbone are fixed. In the released code the backbone is in training
mode while DAMSM is trained, so its running statistics drift to those of the data set, and the saved
file contains them; an imported DAMSM therefore has a backbone of its own. Smaller backbones, for
CPUs, are an addition of this project (`image_backbones`).
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
from safetensors import numpy as safetensors_numpy

from xmc_jax.encoders import image_backbones
from xmc_jax.encoders.lstm import BiLstm
from xmc_jax.types import Array, Tree, UserError
from xmc_jax.utils import atomic
from xmc_jax.utils.hashing import file_sha256
from xmc_jax.weight_files import convert, files, hf_folders

FILES = ('config.json', 'model.safetensors', 'tokenizer.json')
OWN_BACKBONE = 'backbone.safetensors'
INIT_RANGE = 0.1          # word embeddings and projections start uniform in +-0.1
BACKBONE = 'backbone'       # key of the parameters that are not trained


class TextFeatures(NamedTuple):
  """words float32 [b, t, e], 0 at padding; sentence float32 [b, e]."""
  words: Array
  sentence: Array


class ImageFeatures(NamedTuple):
  """embedding float32 [b, e] of the image; regions float32 [b, n, e], row by row."""
  embedding: Array
  regions: Array


class DamsmTextEncoder(nn.Module):
  """The text encoder for `vocabulary` words; each LSTM direction gives half of the `width` e."""
  vocabulary: int
  embedding: int = 300
  width: int = 256
  dropout: float = 0.5      # of the word embeddings, in training

  @nn.compact
  def __call__(self, tokens: Array, mask: Array, rngs: Array | None = None) -> TextFeatures:
    """tokens int32 [b, t], mask bool [b, t]; `rngs`, one key [b] per caption, enable dropout."""
    x = nn.Embed(self.vocabulary, self.embedding, embedding_init=_uniform, name='embed')(tokens)
    if rngs is not None:
      keep = 1 - self.dropout
      kept = jax.vmap(lambda rng: jax.random.bernoulli(rng, keep, x.shape[1:]))(rngs)
      x = jnp.where(kept, x / keep, 0)
    return TextFeatures(*BiLstm(self.width // 2, name='lstm')(x, mask))


class DamsmProjections(nn.Module):
  """The linear projections of the backbone's regions (without bias) and pool (with bias)."""
  width: int = 256

  @nn.compact
  def __call__(self, regions: Array, pool: Array) -> ImageFeatures:
    dense = lambda name, bias: nn.Dense(self.width, bias, kernel_init=_uniform, bias_init=_uniform,
                                        name=name)
    return ImageFeatures(dense('embedding', True)(pool), dense('regions', False)(regions))


class Damsm(nn.Module):
  """Both encoders. The parameters `captions` and `images` are trained, `backbone` is frozen.

  corners: whether images are resized for the backbone with aligned corners.
  """
  vocabulary: int
  backbone_name: str
  embedding: int = 300
  width: int = 256
  dropout: float = 0.5
  corners: bool = True

  def setup(self):
    self.captions = DamsmTextEncoder(self.vocabulary, self.embedding, self.width, self.dropout)
    self.images = DamsmProjections(self.width)

  def text(self, tokens: Array, mask: Array, rngs: Array | None = None) -> TextFeatures:
    """tokens int32 [b, t]; mask bool [b, t], True where there is text; `rngs` in training."""
    return self.captions(tokens, mask, rngs)

  def image(self, images: Array) -> ImageFeatures:
    """images float [b, h, w, 3] in [0, 1], of any size."""
    backbone = image_backbones.find(self.backbone_name)
    variables = {'params': self.get_variable('params', BACKBONE)}
    return self.images(*backbone.feature_maps(variables, images, corners=self.corners))

  def heads(self, tokens: Array, mask: Array, regions: Array, pool: Array) -> None:
    """Applies everything that is trained, for `init`."""
    self.captions(tokens, mask)
    self.images(regions, pool)


def create(module: Damsm, rng: Array) -> Tree:
  """Initial parameters of both encoders, without the backbone."""
  regions, pool = image_backbones.find(module.backbone_name).shapes()
  return module.init(rng, jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool),
                     jnp.zeros((1, *regions)), jnp.zeros((1, pool)), method='heads')['params']


def _uniform(rng: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
  return jax.random.uniform(rng, shape, dtype, -INIT_RANGE, INIT_RANGE)


def with_backbone(params: Tree, backbone: Tree) -> Tree:
  """Variables for `Damsm.apply`, from trained parameters and `ImageBackbone.load()`."""
  return {'params': {**params, BACKBONE: backbone['params']}}


def spec(module: Damsm) -> Tree:
  """Shapes of the variables; needs no files."""
  return with_backbone(_trained_spec(module), image_backbones.find(module.backbone_name).spec)


def _trained_spec(module: Damsm) -> Tree:
  return jax.eval_shape(functools.partial(create, module), jax.random.key(0))


def find(path: str | os.PathLike[str]) -> pathlib.Path:
  """The folder of a trained DAMSM: `path` itself, or `encoder` in the folder of its run.

  Raises UserError if there is no such folder, or a file in it is missing.
  """
  if not os.fspath(path):
    raise UserError('--config.text.encoder: give the folder of a trained DAMSM')
  path = pathlib.Path(path).expanduser()
  # The folder of a run has a config.json too, its own.
  folder = path if hf_folders.weights_file(path).is_file() else path / 'encoder'
  if missing := hf_folders.missing_files(folder, FILES[0], FILES[2]):
    raise UserError(f'there is no DAMSM in {path}: {missing[0]} is missing; train one first with '
                    'a DAMSM config, such as configs/damsm_emoji.py, and give the folder of its '
                    'run')
  return folder


def sizes(folder: str | os.PathLike[str]) -> Damsm:
  """The network described by the `config.json` of a folder; UserError if there is none."""
  path = pathlib.Path(folder, FILES[0])
  with files.reading(path):
    known = json.loads(path.read_text(encoding='utf-8'))
    if known['model_type'] != 'damsm':
      raise ValueError(f'its model_type is {known["model_type"]}, not damsm')
    known |= {name: hf_folders.size(known, name) for name in ('vocabulary', 'embedding', 'width')}
    return Damsm(**{f.name: known[f.name] for f in dataclasses.fields(Damsm) if f.name in known})


def load(folder: str | os.PathLike[str]) -> tuple[Damsm, Tree]:
  """The network in a folder and all its weights, including the backbone's.

  Raises UserError if a file is missing or damaged; or the backbone's weights are missing, or are
  not the ones that it was trained with.
  """
  module, folder = sizes(folder), pathlib.Path(folder)
  with files.reading(folder / FILES[0]):
    trained_with = json.loads((folder / FILES[0]).read_text(encoding='utf-8'))['backbone_sha256']
  backbone, own = image_backbones.find(module.backbone_name), folder / OWN_BACKBONE
  digits = file_sha256(own) if own.is_file() else backbone.sha256()
  if digits != trained_with:
    where, then = ((own, 'copy the whole folder again') if own.is_file() else
                   (backbone.name, 'put that file into the folder XMC_JAX_WEIGHTS'))
    raise UserError(f'the weights {where} found here are not those that the DAMSM in {folder} was '
                    f'trained with, whose sha256 is {trained_with}; {then}')
  variables = _own_backbone(own, backbone.spec) if own.is_file() else backbone.load()
  return module, with_backbone(load_params(folder, module), variables)


def _own_backbone(path: pathlib.Path, spec: Tree) -> Tree:
  tensors = files.read_safetensors(path)
  try:
    return convert.fill(spec, tensors, lambda path: ['/'.join(path[1:])], layout='jax')
  except UserError as error:
    raise UserError(f'{path} is not the backbone that the config.json beside it names: {error}'
                    ) from error


def load_params(folder: str | os.PathLike[str], module: Damsm) -> Tree:
  """The trained parameters of `module` in a folder; UserError if they do not match it."""
  return hf_folders.load(folder, _trained_spec(module), lambda path: ['/'.join(path)],
                         layout='jax')


def save(folder: os.PathLike[str], module: Damsm, params: Tree, tokenizer: str,
         backbone: Tree | None = None) -> None:
  """Writes a folder: `params` without the backbone, and the content of `tokenizer.json`.

  backbone: the variables of a backbone of its own; None if it is the one of that name.
  """
  known = {f.name: getattr(module, f.name) for f in dataclasses.fields(module)
           if f.name not in ('parent', 'name')}
  flat = lambda tree: traverse_util.flatten_dict(jax.device_get(tree), sep='/')
  if backbone:
    own = pathlib.Path(folder, OWN_BACKBONE)
    atomic.save(own, safetensors_numpy.save(flat(backbone['params'])))
    digits = file_sha256(own)
  else:
    digits = image_backbones.find(module.backbone_name).sha256()
  config = {'model_type': 'damsm', **known, 'backbone_sha256': digits}
  hf_folders.write(folder, config, flat(params), tokenizer)
