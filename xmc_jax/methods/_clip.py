"""What methods share that are built around a CLIP: its sizes, and where its weights come from."""
from __future__ import annotations

import jax.numpy as jnp
import ml_collections

from xmc_jax.encoders import clip, registry
from xmc_jax.encoders.clip_inputs import SEEN
from xmc_jax.encoders.clip_layers import TransformerConfig
from xmc_jax.types import Tree, UserError

HEAD = 64       # features of a head of attention, in every CLIP


def sizes() -> dict[str, int]:
  """The keys `config.clip` for ViT-B/32; read as long as the folder `text.encoder` is missing."""
  return dict(
      side=224, patch=32,              # px of the images that it sees, and of a patch
      width=768, layers=12,            # of the image transformer
      text_width=512, text_layers=12,
      pieces=49408,                    # of the vocabulary, at most
      features=512)                    # of a code


def small() -> dict[str, int]:
  """The same for CPUs, ours: 8 x 8 patches of 64 px, a sixth of the width, half the depth."""
  return dict(side=64, patch=8, width=128, layers=6, text_width=128, text_layers=4, pieces=2048,
              features=128)


def text_config() -> dict[str, object]:
  """The keys `config.text`."""
  return dict(
      encoder=clip.BASE,         # or the folder of another CLIP: RUN/encoder of a CLIP config
      length=77,                 # word pieces of a caption, both marks included
      script='latin')            # letters a sampled caption may have: 'latin' or 'any'


def described(c: ml_collections.ConfigDict) -> clip.ClipConfig:
  """The CLIP of the keys `config.clip`; its captions end at the highest id."""
  for name, width in (('width', c.width), ('text_width', c.text_width)):
    if width % HEAD:
      raise UserError(f'--config.clip.{name}={width}: it must be a multiple of {HEAD}, the '
                      'features of a head of attention')
  if c.side % c.patch:
    raise UserError(f'--config.clip.patch={c.patch}: it must divide the side, {c.side} px')
  transformer = lambda width, layers: TransformerConfig(width, layers, width // HEAD, 4 * width, 'quick_gelu',
                                            1e-5)
  return clip.ClipConfig(
      transformer(c.width, c.layers), transformer(c.text_width, c.text_layers), c.features, c.side, c.patch,
      c.pieces, positions=77, end=None)


def network(config: ml_collections.ConfigDict) -> clip.Clip:
  """That of the folder `text.encoder`; as long as there is none, of the sizes the config tells."""
  if config.model.clip_input not in SEEN:
    raise UserError(f'--config.model.clip_input={config.model.clip_input}: choose one of '
                    f'{", ".join(SEEN)}')
  try:
    found = clip.ClipConfig.read(clip.find(config.text.encoder))
  except UserError:      # of a folder that is missing, reading the weights will tell
    found = described(config.clip)
  if config.text.length > found.positions:
    raise UserError(f'--config.text.length={config.text.length}: this CLIP has places for '
                    f'{found.positions} word pieces; give at most that')
  return clip.Clip(found, jnp.dtype(config.model.dtype))


def read(name_or_path: str) -> Tree:
  """The weights; UserError if they are missing, or not those of their name."""
  folder = clip.find(name_or_path)
  registry.check_named(name_or_path, folder)
  return clip.load(folder)[1]
