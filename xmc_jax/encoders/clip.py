"""A frozen CLIP of any size, read from a folder in Hugging Face's layout: images and captions.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv
2103.00020): a vision transformer and a causal text transformer, both with layer norm before each
residual branch, and a linear map of each into one space.

  folder = clip.find("clip-vit-base-patch32")
  module, variables = clip.load(folder)
  codes = module.apply(variables, pixels, method="image")      # [b, d]
  codes = module.apply(variables, tokens, method="text")       # [b, d]

`image_features`, `forward_with_prompts` and `token_features` are for networks that are built around a CLIP (GALIP, arXiv 2301.12959):
they also give the maps inside the image transformer, send a map of another network through it, and
give the vectors of single word pieces. `save` writes a CLIP that was trained here.

Pixels and tokens are made by `clip_inputs`. Nearness of an image and a caption is the cosine of
their codes; the codes are not of unit length. Matrix products have JAX's highest precision,
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

from xmc_jax.encoders.clip_layers import HIGHEST, Layer, TransformerConfig, norm, normal
from xmc_jax.types import Array, Tree, UserError
from xmc_jax.weight_files import files, torch_files
from xmc_jax.weight_files.convert import Path, fill

BASE = 'clip-vit-base-patch32'
LARGE = 'clip-vit-large-patch14-336'
FILES = ('config.json', 'tokenizer.json')
# The weights, and what reads them: the first file that is there.
READERS = {'model.safetensors': files.read_safetensors, 'pytorch_model.bin': torch_files.read}

# What a configuration leaves out is that of ViT-B/32.
_TOWER = {'num_hidden_layers': 12, 'hidden_act': 'quick_gelu', 'layer_norm_eps': 1e-5}
_IMAGE = _TOWER | {'hidden_size': 768, 'num_attention_heads': 12, 'intermediate_size': 3072,
                   'image_size': 224, 'patch_size': 32}
_TEXT = _TOWER | {'hidden_size': 512, 'num_attention_heads': 8, 'intermediate_size': 2048,
                  'vocab_size': 49408, 'max_position_embeddings': 77, 'eos_token_id': 49407}


def find(name_or_path: str | os.PathLike[str]) -> pathlib.Path:
  """The folder of a CLIP: a path, or a name inside one of `files.folders()`.

  The path of a run that trained one stands for its folder `encoder`.

  Raises:
    UserError: no name is given, there is no such folder, or one of its three files is missing.
  """
  if not os.fspath(name_or_path):       # as a path it would be the folder of the process
    raise UserError('No CLIP is named; give its folder, or a name such as '
                    f'{BASE} (`xmc weights get {BASE}`).')
  path = pathlib.Path(name_or_path).expanduser()
  places = list(dict.fromkeys([path, *(folder / path for folder in files.folders())]))
  folder = next((place for place in places if place.is_dir()), None)
  if folder and not (folder / FILES[1]).is_file() and (folder / 'encoder' / FILES[1]).is_file():
    folder /= 'encoder'
  missing = [name for name in FILES if folder is None or not (folder / name).is_file()]
  if folder is not None and not any((folder / name).is_file() for name in READERS):
    missing.append(' or '.join(READERS))
  if missing:
    where = ' or '.join(str(place.absolute()) for place in ([folder] if folder else places))
    raise UserError(
      f"The CLIP's {', '.join(missing)} cannot be found in {where}; run `xmc weights get {BASE}`, "
      f"or put the files {', '.join(FILES)} and {' or '.join(READERS)} of a CLIP, such as "
      f'https://huggingface.co/openai/{BASE}, into a folder and give its path. A small one is left '
      'by a run of a CLIP config, such as configs/clip_emoji.py, in its folder encoder.')
  return folder


@dataclasses.dataclass(frozen=True)
class ClipConfig:
  """The sizes of one CLIP.

  image, text  of the two transformers
  size         features of a code, d
  side, patch  pixels of an image's and of a patch's edge
  vocabulary, positions  of the text transformer
  end          id of the word piece whose output is the caption's; None for the highest id in a row,
               which is what configurations with the wrong eos_token_id 2, OpenAI's own, stand for
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
    """Patches along an edge of an image, g."""
    return self.side // self.patch

  @classmethod
  def read(cls, folder: str | os.PathLike[str]) -> ClipConfig:
    """Reads `config.json` of a folder.

    Raises:
      UserError: the file is missing, is not JSON, or describes another network.
    """
    path = pathlib.Path(folder, 'config.json')
    try:
      raw = json.loads(path.read_text(encoding='utf-8'))
      if raw['model_type'] != 'clip':
        raise ValueError(f"model_type is {raw['model_type']!r}, and not 'clip'")
      image, text = _IMAGE | raw['vision_config'], _TEXT | raw['text_config']
      end = int(text['eos_token_id'])
      return cls(
        TransformerConfig.of(image), TransformerConfig.of(text), int(raw.get('projection_dim', 512)),
        side=int(image['image_size']), patch=int(image['patch_size']),
        vocabulary=int(text['vocab_size']), positions=int(text['max_position_embeddings']),
        end=None if end == 2 else end)
    except KeyError as error:
      raise UserError(f'{path} has no {error}: it does not describe a CLIP.') from error
    except (OSError, ValueError, TypeError) as error:
      raise UserError(f"{path} cannot be read as a CLIP's configuration: {error}.") from error

  def raw(self) -> dict[str, object]:
    """What `read` reads, ready for JSON."""
    return {
      'model_type': 'clip', 'architectures': ['CLIPModel'], 'projection_dim': self.size,
      'vision_config': {**self.image.raw(), 'projection_dim': self.size,
                        'image_size': self.side, 'patch_size': self.patch},
      'text_config': {**self.text.raw(), 'projection_dim': self.size,
                      'vocab_size': self.vocabulary, 'max_position_embeddings': self.positions,
                      'eos_token_id': 2 if self.end is None else self.end}}


class Clip(nn.Module):
  """Images and captions to codes in one space.

  Parameters are float32; `dtype` is that of the matrix products. Softmax, layer norm and the codes
  are float32 whatever it is.
  """

  config: ClipConfig
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.image_transformer = ImageTower(self.config, self.dtype)
    self.text_transformer = TextTower(self.config, self.dtype)

  def __call__(self, pixels: Array, tokens: Array) -> tuple[Array, Array]:
    return self.image(pixels), self.text(tokens)

  def image(self, pixels: Array) -> Array:
    """float32 [b, side, side, 3], as `clip_inputs.prepare` makes them, to float32 [b, size]."""
    return self.image_transformer(pixels)

  def image_features(self, pixels: Array, taps: tuple[int, ...]) -> tuple[Array, Array]:
    """The same codes, and the maps of the patches after the layers `taps`, counted from 0.

    Maps are float32 [b, k, g, g, e], of k taps, without the vector that is no patch.
    """
    return self.image_transformer.image_features(pixels, taps)

  def forward_with_prompts(self, x: Array, prompts: Array, first: int) -> Array:
    """A map of another network, in place of the patches, through all layers.

    x: float32 [b, g, g, e]. prompts: float32 [b, p, e]; layer `first + i` sees the i-th of them as
    one more vector, which it loses after the layer. Returns float32 [b, g, g, e].
    """
    return self.image_transformer.forward_with_prompts(x, prompts, first)

  def text(self, tokens: Array) -> Array:
    """int32 [b, t], each row with the end token, to float32 [b, size].

    What follows the first end token makes no difference.

    Raises:
      UserError: `t` is more than the encoder has positions for.
    """
    return self.text_transformer(tokens)[1]

  def token_features(self, tokens: Array) -> tuple[Array, Array]:
    """The vectors of the word pieces, float32 [b, t, width of the text tower], and the codes."""
    return self.text_transformer(tokens)


class ImageTower(nn.Module):
  """The vision transformer: one vector a patch and one of its own, whose output is the code."""

  config: ClipConfig
  dtype: jnp.dtype

  def setup(self):
    config, sizes = self.config, self.config.image
    patch = (config.patch, config.patch)
    self.patches = nn.Conv(sizes.width, patch, patch, 'VALID', use_bias=False, dtype=self.dtype,
                           precision=HIGHEST)
    spread = normal(sizes.width ** -0.5)
    self.own = self.param('class', spread, (sizes.width,))
    self.positions = nn.Embed(1 + config.grid ** 2, sizes.width, embedding_init=spread)
    self.norm_before, self.norm_after = norm(sizes.eps), norm(sizes.eps)
    self.layer = [Layer(sizes, False, self.dtype) for _ in range(sizes.layers)]
    self.project = _projection(config.size, self.dtype)

  def __call__(self, pixels: Array) -> Array:
    return self._code(self._layers(self._embed(pixels))[-1])

  def image_features(self, pixels: Array, taps: tuple[int, ...]) -> tuple[Array, Array]:
    after = self._layers(self._embed(pixels))
    return self._code(after[-1]), jnp.stack([self._map(after[i]) for i in taps], 1)

  def forward_with_prompts(self, x: Array, prompts: Array, first: int) -> Array:
    extra = {first + i: prompts[:, i:i + 1] for i in range(prompts.shape[1])}
    return self._map(self._layers(x.reshape(len(x), -1, x.shape[-1]), extra)[-1])

  def _embed(self, pixels: Array) -> Array:
    """Vectors [b, n, e] of the patches, row by row."""
    if pixels.shape[1:] != (self.config.side, self.config.side, 3):
      raise ValueError(f'this CLIP sees pixels of [b, {self.config.side}, {self.config.side}, 3], '
                       f'not of {list(pixels.shape)}; see clip_inputs.prepare')
    x = self.patches(pixels).astype(jnp.float32)
    return x.reshape(len(x), -1, x.shape[-1])

  def _layers(self, x: Array, extra: Mapping[int, Array] = {}) -> list[Array]:
    """What is after each layer, [b, 1 + n, e], of patches [b, n, e]; `extra` [b, 1, e] by layer."""
    own = jnp.broadcast_to(self.own, (len(x), 1, x.shape[-1]))
    x = jnp.concatenate([own, x], 1)
    x = self.norm_before(x + self.positions(jnp.arange(x.shape[1]))[None])
    after = []
    for i, layer in enumerate(self.layer):
      x = layer(jnp.concatenate([x, extra[i]], 1))[:, :-1] if i in extra else layer(x)
      after.append(x)
    return after

  def _map(self, x: Array) -> Array:
    return x[:, 1:].reshape(len(x), self.config.grid, self.config.grid, -1)

  def _code(self, x: Array) -> Array:
    return self.project(self.norm_after(x[:, 0])).astype(jnp.float32)


class TextTower(nn.Module):
  """The causal transformer; the output at the first end token is the code."""

  config: ClipConfig
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, tokens: Array) -> tuple[Array, Array]:
    """Vectors of all pieces, and codes."""
    config, sizes = self.config, self.config.text
    length = tokens.shape[1]
    if length > config.positions:
      raise UserError(f'Captions of {length} word pieces are longer than the {config.positions} '
                      'positions of the CLIP; cut them.')
    x = nn.Embed(config.vocabulary, sizes.width, embedding_init=normal(0.02), name='words')(tokens)
    x += nn.Embed(config.positions, sizes.width, embedding_init=normal(0.01),
                  name='positions')(jnp.arange(length))[None]
    for i in range(sizes.layers):
      x = Layer(sizes, True, self.dtype, name=f'layer_{i}')(x)
    words = norm(sizes.eps, 'norm_final')(x)
    end = jnp.argmax(tokens if config.end is None else tokens == config.end, axis=1)
    last = jnp.take_along_axis(words, end[:, None, None], axis=1)[:, 0]
    return words, _projection(config.size, self.dtype, 'project')(last).astype(jnp.float32)


def _projection(size: int, dtype: jnp.dtype, name: str | None = None) -> nn.Dense:
  return nn.Dense(size, use_bias=False, dtype=dtype, precision=HIGHEST, name=name)


def spec(module: Clip) -> Tree:
  """Shapes of the variables, known without files."""
  config = module.config
  pixels = jax.ShapeDtypeStruct((1, config.side, config.side, 3), jnp.float32)
  return jax.eval_shape(module.init, jax.random.key(0), pixels,
                        jax.ShapeDtypeStruct((1, 2), jnp.int32))


def weights_of(folder: str | os.PathLike[str]) -> pathlib.Path:
  """The file of weights in a folder: the first of `READERS` that is there."""
  paths = [pathlib.Path(folder, name) for name in READERS]
  return next((path for path in paths if path.is_file()), paths[0])


def load(folder: str | os.PathLike[str], dtype: jnp.dtype = jnp.float32) -> tuple[Clip, Tree]:
  """The network of a folder, and its weights as `{"params": ...}`, float32.

  Raises:
    UserError: a file is missing or damaged, or a tensor is missing or has another shape.
  """
  config = ClipConfig.read(folder)
  module = Clip(config, dtype)
  path = weights_of(folder)
  tensors = READERS[path.name](path)
  try:
    return module, fill(spec(module), tensors, _names)
  except UserError as error:
    raise UserError(f'{path} is not the CLIP of its config.json: {error}.') from error


def save(folder: os.PathLike[str], config: ClipConfig, variables: Tree, tokenizer: str,
         temperature: float) -> None:
  """Writes a folder that `load` reads, and transformers too.

  tokenizer: the text of the tokenizer.json. temperature: that the cosines were divided by in
  training; nothing here reads it.
  """
  tensors = {'logit_scale': np.float32(-np.log(temperature))}
  for path, leaf in traverse_util.flatten_dict(jax.device_get(variables)).items():
    value = np.asarray(leaf, np.float32)
    if path[-1] == 'kernel':
      value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    tensors[_names(path)[0]] = value
  files.write_folder(folder, config.raw(), tensors, tokenizer)


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
  """The name in the file of one of our parameters."""
  *modules, leaf = path[1:]
  stem = [_MODULES.get(name, name.replace('layer_', 'encoder.layers.')) for name in modules]
  return [_ALONE.get(path[1:]) or '.'.join([*stem, 'bias' if leaf == 'bias' else 'weight'])]
