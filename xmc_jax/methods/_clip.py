"""The sizes of a CLIP in a config, and where its weights come from."""
from __future__ import annotations

import jax.numpy as jnp
import ml_collections

from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import clip, registry
from xmc_jax.encoders.clip_inputs import INPUT_MODES
from xmc_jax.encoders.clip_layers import TransformerConfig
from xmc_jax.types import Tree, UserError

HEAD = 64       # features of an attention head, in every CLIP


def sizes() -> dict[str, int]:
  """The keys `config.clip` for ViT-B/32; used if the folder `text.encoder` does not exist."""
  return dict(
      side=224, patch=32,              # px of its input images, and of a patch
      width=768, layers=12,            # of the image transformer
      text_width=512, text_layers=12,
      pieces=49408,                    # of the vocabulary, at most
      features=512)                    # of the joint embedding


def small() -> dict[str, int]:
  """The same for CPUs, ours: 8 x 8 patches of 64 px, a sixth of the width, half the depth."""
  return dict(side=64, patch=8, width=128, layers=6, text_width=128, text_layers=4, pieces=2048,
              features=128)


def text_config() -> dict[str, object]:
  """The keys `config.text`."""
  return dict(
      encoder=clip.BASE,         # or the folder of another CLIP: RUN/encoder of a CLIP config
      length=77,                 # word pieces of a caption, start and end included
      script='latin')            # letters a sampled caption may have: 'latin' or 'any'


def sizes_of(c: ml_collections.ConfigDict) -> clip.ClipConfig:
  """The CLIP with the sizes in `config.clip`; its captions end at the highest token id."""
  for name, width in (('width', c.width), ('text_width', c.text_width)):
    if width % HEAD:
      raise UserError(f'--config.clip.{name}={width}: must be a multiple of {HEAD}, the size of an '
                      'attention head')
  if c.side % c.patch:
    raise UserError(f'--config.clip.patch={c.patch}: must divide the side, {c.side} px')
  transformer = lambda width, layers: TransformerConfig(width, layers, width // HEAD, 4 * width,
                                                        'quick_gelu', 1e-5)
  return clip.ClipConfig(
      transformer(c.width, c.layers), transformer(c.text_width, c.text_layers), c.features,
      c.side, c.patch, c.pieces, positions=77, end=None)


def network(config: ml_collections.ConfigDict) -> clip.Clip:
  """The CLIP of the folder `text.encoder`, or of the sizes in the config if there is none yet."""
  if config.model.clip_input not in INPUT_MODES:
    raise UserError(f'--config.model.clip_input={config.model.clip_input}: choose one of '
                    f'{", ".join(INPUT_MODES)}')
  try:
    found = clip.ClipConfig.read(clip.find(config.text.encoder))
  except UserError:      # a missing folder is reported when its weights are read
    found = sizes_of(config.clip)
  if config.text.length > found.positions:
    raise UserError(f'--config.text.length={config.text.length}: this CLIP has positions for '
                    f'{found.positions} word pieces; give at most that')
  return clip.Clip(found, jnp.dtype(config.model.dtype))


def tokenizer(config: ml_collections.ConfigDict, network: clip.Clip) -> Tokenizer:
  """That of the folder `text.encoder`; UserError if it does not fit the network there."""
  return Tokenizer(clip.find(config.text.encoder), config.text.length,
                   rows=network.config.vocabulary)


def read(name_or_path: str) -> Tree:
  """Reads the weights; UserError if they are missing or not the ones that the name promises."""
  folder = clip.find(name_or_path)
  registry.check_named(name_or_path, folder)
  return clip.load(folder)[1]
