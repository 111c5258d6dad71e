"""The embedded emoji: records, and images with alpha (written by tools/build_emoji.py)."""
from __future__ import annotations

import functools
import importlib.resources
import io
import json

import numpy as np
from PIL import Image

SIDE = 64  # side of the stored images in pixels


@functools.lru_cache(maxsize=1)
def records() -> tuple[dict, ...]:
  """Returns the records: hexcode, name, phrase, keywords, group, subgroup, kind, colours, heldout.

  Values are strings, except `keywords` and `colours` (lists of strings) and `heldout` (bool).
  """
  text = _asset('emoji.json').decode('utf-8')
  return tuple(json.loads(text))


@functools.cache
def image(index: int) -> Image.Image:
  """Returns the image of `records()[index]`, RGBA, 64 x 64; shared, so copy it to change it."""
  blob, ends = _packed()
  start = int(ends[index - 1]) if index else 0
  data = blob[start:int(ends[index])].tobytes()
  return Image.open(io.BytesIO(data)).convert('RGBA')


@functools.lru_cache(maxsize=1)
def _packed() -> tuple[np.ndarray, np.ndarray]:
  with np.load(io.BytesIO(_asset('emoji.npz'))) as arrays:
    return arrays['bytes'], arrays['ends']


def _asset(name: str) -> bytes:
  return importlib.resources.files('xmc_jax.data.embedded').joinpath('assets', name).read_bytes()
