"""A frozen CLIP of any size, loaded from a folder in Hugging Face's layout.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv
2103.00020): a vision transformer and a causal text transformer, both with layer norm before each
residual branch, and a linear projection of each into one space.

  folder = clip.find("clip-vit-base-patch32")
  module, variables = clip.load(folder)
  images = module.apply(variables, pixels, method="image")      # [b, d]
  texts = module.apply(variables, tokens, method="text")        # [b, d]

`image_features`, `forward_with_prompts` and `token_features` are used by GALIP (arXiv 2301.12959):
intermediate patch features, the vision transformer run on a generated feature map with prompts, and
per-token text features. `save` writes a CLIP that was trained with this package.

`clip_inputs` makes pixels and tokens. The similarity of an image and a caption is the cosine of
their embeddings, which do not have unit length. Matrix products have JAX's highest precision,
because evaluation compares numbers across machines.
"""
from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from xmc_jax.encoders.clip_layers import HIGHEST, ClipLayer, TransformerConfig, norm, normal
from xmc_jax.types import Array, Tree, UserError
from xmc_jax.weight_files import hf_folders
from xmc_jax.weight_files.convert import Path

BASE = 'clip-vit-base-patch32'
LARGE = 'clip-vit-large-patch14-336'
PUBLISHED = (BASE, LARGE)
FILES = ('config.json', 'tokenizer.json')

# Defaults for what a configuration leaves out: ViT-B/32.
_TRANSFORMER = {'num_hidden_layers': 12, 'hidden_act': 'quick_gelu', 'layer_norm_eps': 1e-5}
_IMAGE = _TRANSFORMER | {'hidden_size': 768, 'num_attention_heads': 12, 'intermediate_size': 3072,
                         'image_size': 224, 'patch_size': 32}
_TEXT = _TRANSFORMER | {'hidden_size': 512, 'num_attention_heads': 8, 'intermediate_size': 2048,
                        'vocab_size': 49408, 'max_position_embeddings': 77, 'eos_token_id': 49407}


def find(name_or_path: str | os.PathLike[str]) -> pathlib.Path:
  """The folder of a CLIP: a path, or a name inside one of `files.folders()`.

  For a run that trained a CLIP, its folder `encoder` is found.

  Raises UserError if the name is empty, there is no such folder, or a file in it is missing.
  """
  if not os.fspath(name_or_path):       # as a path, it would be the current folder
    raise UserError('no CLIP is given: give its folder, or a name such as '
                    f'{BASE} (`xmc weights get {BASE}`)')
  folder = hf_folders.find(name_or_path)
  if folder and not (folder / FILES[1]).is_file() and (folder / 'encoder' / FILES[1]).is_file():
    folder /= 'encoder'
  missing = hf_folders.missing_files(folder, *FILES) if folder else [*FILES, hf_folders.WEIGHTS]
  if missing:
    name = os.fspath(name_or_path) if os.fspath(name_or_path) in PUBLISHED else BASE
    published = (f'run `xmc weights get {name}`, or give the path of a folder with '
                 f"{', '.join(FILES)} and {hf_folders.WEIGHTS} of a CLIP, such as "
                 f'https://huggingface.co/openai/{name}')
    of_a_run = pathlib.Path(name_or_path).name == 'encoder'
    remedy = ('train that CLIP first, such as with configs/clip_emoji.py, or give another with '
              '--config.text.encoder' if of_a_run else published)
    where = hf_folders.shown([folder] if folder else hf_folders.places(name_or_path))
    raise UserError(
      f"{', '.join(missing)} of the CLIP cannot be found in {where}; {remedy}")
  return folder


@dataclasses.dataclass(frozen=True)
class ClipConfig:
  """The sizes of a CLIP.

  image, text  of the two transformers
  size         of an embedding, d
  side, patch  pixels per side of an image and of a patch
  vocabulary, positions  of the text transformer
  end          id of the end token, whose output becomes the caption's embedding; None: the highest
               id of the caption. Configurations with the wrong eos_token_id 2, such as OpenAI's
               own, mean the latter.
  """
  image: TransformerConfig
  text: TransformerConfig
  size: int
  side: int
  patch: int
  vocabulary: int
  positions: int
  end: int | None

  @property
  def grid(self) -> int:
    """Patches along a side of an image, g."""
    return self.side // self.patch

  @classmethod
  def read(cls, folder: str | os.PathLike[str]) -> ClipConfig:
    """Reads the `config.json` of a folder.

    Raises UserError if the file is missing, is not JSON, or describes another network.
    """
    path = pathlib.Path(folder, 'config.json')
    try:
      raw = json.loads(path.read_text(encoding='utf-8'))
      if raw['model_type'] != 'clip':
        raise ValueError(f"model_type is {raw['model_type']!r}, not 'clip'")
      image, text = _IMAGE | raw['vision_config'], _TEXT | raw['text_config']
      end = int(text['eos_token_id'])
      return cls(
        TransformerConfig.of(image), TransformerConfig.of(text),
        size=hf_folders.size({'projection_dim': 512} | raw, 'projection_dim'),
        side=hf_folders.size(image, 'image_size'), patch=hf_folders.size(image, 'patch_size'),
        vocabulary=hf_folders.size(text, 'vocab_size'),
        positions=hf_folders.size(text, 'max_position_embeddings'),
        end=None if end == 2 else end)
    except KeyError as error:
      raise UserError(f'{path} has no {error}, so it does not describe a CLIP') from error
    except (OSError, ValueError, TypeError) as error:
      raise UserError(f'{path} cannot be read as the configuration of a CLIP: {error}') from error

  def raw(self) -> dict[str, object]:
    """The content of `config.json`, ready for JSON."""
    return {
      'model_type': 'clip', 'architectures': ['CLIPModel'], 'projection_dim': self.size,
      'vision_config': {**self.image.raw(), 'projection_dim': self.size,
                        'image_size': self.side, 'patch_size': self.patch},
      'text_config': {**self.text.raw(), 'projection_dim': self.size,
                      'vocab_size': self.vocabulary, 'max_position_embeddings': self.positions,
                      'eos_token_id': 2 if self.end is None else self.end}}


class Clip(nn.Module):
  """Maps images and captions to embeddings in one space.

  Parameters are float32; matrix products use `dtype`. Softmax, layer norm and the embeddings are
  always float32.
  """
  config: ClipConfig
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.image_transformer = ClipImageEncoder(self.config, self.dtype)
    self.text_transformer = ClipTextEncoder(self.config, self.dtype)

  def __call__(self, pixels: Array, tokens: Array) -> tuple[Array, Array]:
    return self.image(pixels), self.text(tokens)

  def image(self, pixels: Array) -> Array:
    """Pixels float32 [b, side, side, 3], from `clip_inputs.preprocess`, to float32 [b, size]."""
    return self.image_transformer(pixels)

  def image_features(self, pixels: Array, layers: tuple[int, ...]) -> tuple[Array, Array]:
    """The image embeddings, and the patch features after k `layers`, counted from 0.

    Returns float32 [b, size] and float32 [b, k, g, g, e]; the class token is left out of the
    latter.
    """
    return self.image_transformer.image_features(pixels, layers)

  def forward_with_prompts(self, x: Array, prompts: Array, first: int) -> Array:
    """Runs all layers of the vision transformer on a feature map in place of the patches.

    x: float32 [b, g, g, e].
    prompts: float32 [b, p, e]; prompt i is an additional token of layer `first + i` and is
      dropped after that layer.
    first: the layer that sees the first prompt.

    Returns float32 [b, g, g, e].
    """
    return self.image_transformer.forward_with_prompts(x, prompts, first)

  def text(self, tokens: Array) -> Array:
    """Tokens int32 [b, t], each row with an end token, to float32 [b, size].

    Tokens after the first end token have no effect.

    Raises UserError if `t` exceeds the number of positions.
    """
    return self.text_transformer(tokens)[1]

  def token_features(self, tokens: Array) -> tuple[Array, Array]:
    """The features of all tokens, float32 [b, t, text width], and the text embeddings."""
    return self.text_transformer(tokens)


class ClipImageEncoder(nn.Module):
  """The vision transformer; the embedding is the projected output of its class token."""
  config: ClipConfig
  dtype: jnp.dtype

  def setup(self):
    config, sizes = self.config, self.config.image
    patch = (config.patch, config.patch)
    self.patches = nn.Conv(sizes.width, patch, patch, 'VALID', use_bias=False, dtype=self.dtype,
                           precision=HIGHEST)
    init = normal(sizes.width ** -0.5)
    self.class_token = self.param('class', init, (sizes.width,))
    self.positions = nn.Embed(1 + config.grid ** 2, sizes.width, embedding_init=init)
    self.norm_before, self.norm_after = norm(sizes.eps), norm(sizes.eps)
    self.layer = [ClipLayer(sizes, False, self.dtype) for _ in range(sizes.layers)]
    self.project = _projection(config.size, self.dtype)

  def __call__(self, pixels: Array) -> Array:
    return self._embedding(self._layers(self._embed(pixels))[-1])

  def image_features(self, pixels: Array, layers: tuple[int, ...]) -> tuple[Array, Array]:
    after = self._layers(self._embed(pixels))
    return self._embedding(after[-1]), jnp.stack([self._map(after[i]) for i in layers], 1)

  def forward_with_prompts(self, x: Array, prompts: Array, first: int) -> Array:
    extra = {first + i: prompts[:, i:i + 1] for i in range(prompts.shape[1])}
    return self._map(self._layers(x.reshape(len(x), -1, x.shape[-1]), extra)[-1])

  def _embed(self, pixels: Array) -> Array:
    """The patches as tokens [b, n, e], row by row."""
    if pixels.shape[1:] != (self.config.side, self.config.side, 3):
      raise ValueError(f'this CLIP needs pixels [b, {self.config.side}, {self.config.side}, 3], '
                       f'not {list(pixels.shape)}; see clip_inputs.preprocess')
    x = self.patches(pixels).astype(jnp.float32)
    return x.reshape(len(x), -1, x.shape[-1])

  def _layers(self, x: Array, extra: Mapping[int, Array] = {}) -> list[Array]:
    """The outputs [b, 1 + n, e] of all layers for patches [b, n, e]; `extra` tokens by layer."""
    class_token = jnp.broadcast_to(self.class_token, (len(x), 1, x.shape[-1]))
    x = jnp.concatenate([class_token, x], 1)
    x = self.norm_before(x + self.positions(jnp.arange(x.shape[1]))[None])
    after = []
    for i, layer in enumerate(self.layer):
      x = layer(jnp.concatenate([x, extra[i]], 1))[:, :-1] if i in extra else layer(x)
      after.append(x)
    return after

  def _map(self, x: Array) -> Array:
    return x[:, 1:].reshape(len(x), self.config.grid, self.config.grid, -1)

  def _embedding(self, x: Array) -> Array:
    return self.project(self.norm_after(x[:, 0])).astype(jnp.float32)


class ClipTextEncoder(nn.Module):
  """The causal transformer; the embedding is the projected output at the first end token."""
  config: ClipConfig
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, tokens: Array) -> tuple[Array, Array]:
    """The features of all tokens [b, t, e], and the embeddings [b, size]."""
    config, sizes = self.config, self.config.text
    length = tokens.shape[1]
    if length > config.positions:
      raise UserError(f'captions of {length} word pieces are longer than the {config.positions} '
                      'positions of the CLIP; cut them')
    x = nn.Embed(config.vocabulary, sizes.width, embedding_init=normal(0.02), name='words')(tokens)
    x += nn.Embed(config.positions, sizes.width, embedding_init=normal(0.01),
                  name='positions')(jnp.arange(length))[None]
    for i in range(sizes.layers):
      x = ClipLayer(sizes, True, self.dtype, name=f'layer_{i}')(x)
    words = norm(sizes.eps, 'norm_final')(x)
    end = jnp.argmax(tokens if config.end is None else tokens == config.end, axis=1)
    last = jnp.take_along_axis(words, end[:, None, None], axis=1)[:, 0]
    return words, _projection(config.size, self.dtype, 'project')(last).astype(jnp.float32)


def _projection(size: int, dtype: jnp.dtype, name: str | None = None) -> nn.Dense:
  return nn.Dense(size, use_bias=False, dtype=dtype, precision=HIGHEST, name=name)


def spec(module: Clip) -> Tree:
  """Shapes of the variables; needs no files."""
  config = module.config
  pixels = jax.ShapeDtypeStruct((1, config.side, config.side, 3), jnp.float32)
  return jax.eval_shape(module.init, jax.random.key(0), pixels,
                        jax.ShapeDtypeStruct((1, 2), jnp.int32))


def load(folder: str | os.PathLike[str], dtype: jnp.dtype = jnp.float32) -> tuple[Clip, Tree]:
  """The network in a folder and its weights `{"params": ...}`, float32.

  Raises UserError as `hf_folders.load` does.
  """
  module = Clip(ClipConfig.read(folder), dtype)
  return module, hf_folders.load(folder, spec(module), _names)


def save(folder: os.PathLike[str], config: ClipConfig, variables: Tree, tokenizer: str,
         temperature: float) -> None:
  """Writes a folder for `load`, which transformers can read too.

  folder: created if missing.
  config: the sizes.
  variables: the weights.
  tokenizer: content of tokenizer.json.
  temperature: of the cosines in training; stored for other programs, not used here.
  """
  tensors = {'logit_scale': np.float32(-np.log(temperature))}
  for path, leaf in traverse_util.flatten_dict(jax.device_get(variables)).items():
    value = np.asarray(leaf, np.float32)
    if path[-1] == 'kernel':
      value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    tensors[_names(path)[0]] = value
  hf_folders.write(folder, config.raw(), tensors, tokenizer)


_MODULES = {
  'image_transformer': 'vision_model', 'text_transformer': 'text_model',
  'words': 'embeddings.token_embedding', 'positions': 'embeddings.position_embedding',
  'patches': 'embeddings.patch_embedding', 'norm_before': 'pre_layrnorm',
  'norm_after': 'post_layernorm', 'norm_final': 'final_layer_norm', 'norm_attend': 'layer_norm1',
  'query': 'self_attn.q_proj', 'key': 'self_attn.k_proj', 'value': 'self_attn.v_proj',
  'attended': 'self_attn.out_proj', 'norm_widen': 'layer_norm2', 'widen': 'mlp.fc1',
  'narrow': 'mlp.fc2'}
_ALONE = {
  ('image_transformer', 'class'): 'vision_model.embeddings.class_embedding',
  ('image_transformer', 'project', 'kernel'): 'visual_projection.weight',
  ('text_transformer', 'project', 'kernel'): 'text_projection.weight'}


def _names(path: Path) -> list[str]:
  """The name of a parameter in the file."""
  *modules, leaf = path[1:]
  stem = [_MODULES.get(name, name.replace('layer_', 'encoder.layers.')) for name in modules]
  return [_ALONE.get(path[1:]) or '.'.join([*stem, 'bias' if leaf == 'bias' else 'weight'])]
