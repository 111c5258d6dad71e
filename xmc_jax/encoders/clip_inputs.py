"""Image inputs of CLIP, and constants of its tokenizer.

`preprocess` is for images on the host, `preprocess_on_device` for networks trained through a CLIP.
Captions are encoded by `data.text.Tokenizer`, whose tokens are those of transformers'
CLIPTokenizer, except that padding is 0; embeddings do not depend on it. OpenAI's own code first
fixes wrongly decoded text, straightens curly quotes, drops control characters and resolves HTML
entities. Captions are used unchanged here, so clean them first if that matters.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from xmc_jax.types import Array

if TYPE_CHECKING:      # imported late: a training step does not need it
  from PIL import Image

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of RGB in [0, 1], in CLIP's training images
STD = (0.26862954, 0.26130258, 0.27577711)
LENGTH = 77  # word pieces per caption, including start and end token
START, END = '<|startoftext|>', '<|endoftext|>'
INPUT_MODES = ('single', 'released')


def preprocess(
    images: Sequence[np.ndarray], side: int, *, crop_first: bool = False) -> np.ndarray:
  """Images as inputs of CLIP's image encoder.

  images: uint8 [b, h, w, 3], or b images [h, w, 3] of any sizes.
  side: of the result, in pixels.
  crop_first: False resizes the shorter side to `side` and crops the center, as CLIP does; True
    crops the center square and resizes it, as CMMD does. Square images give the same result.

  Returns float32 [b, side, side, 3], normalized with `MEAN` and `STD`. Resizing is Pillow's
  antialiased bicubic, rounded to uint8. If an odd number of pixels is cropped, the end loses one
  more than the start, as in transformers; torchvision, in OpenAI's code, may differ.
  """
  pixels = np.stack([_square(np.asarray(image), side, crop_first) for image in images])
  return (pixels / np.float32(255) - np.float32(MEAN)) / np.float32(STD)


def preprocess_on_device(images: Array, side: int, mode: str = 'single') -> Array:
  """Generated images as inputs of CLIP's image encoder, inside a jitted function.

  images: float32 [b, s, s, 3] in [0, 1]; values outside are not clipped.
  side: of the result, in pixels.
  mode: 'single' resizes as CLIP does, with an antialiased bicubic filter, and normalizes with
    `MEAN` and `STD`. 'released' is what GALIP's code does in training and in its CLIP score:
    nearest pixels, and images mapped from [-1, 1] to [0, 1] twice, so that CLIP sees them in
    [0.5, 1].

  Returns float32 [b, side, side, 3].
  """
  size = images.shape[1]
  if mode == 'released':
    kept = np.arange(side) * size // side
    images = (images[:, kept][:, :, kept] + 1) / 2
  elif size != side:
    shape = (len(images), side, side, 3)
    images = jax.image.resize(images, shape, 'cubic')
  return (images - jnp.array(MEAN, ndmin=images.ndim)) / jnp.array(STD, ndmin=images.ndim)


def _square(image: np.ndarray, side: int, crop_first: bool) -> np.ndarray:
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise ValueError(f'an image is uint8 [h, w, 3], not {image.dtype} {list(image.shape)}')
  from PIL import Image
  square = Image.fromarray(image)
  if crop_first:
    return np.asarray(_center(square, min(square.size)).resize((side, side), Image.BICUBIC))
  size = [side * edge // min(square.size) for edge in square.size]
  return np.asarray(_center(square.resize(size, Image.BICUBIC), side))


def _center(image: Image.Image, side: int) -> Image.Image:
  left, top = ((edge - side) // 2 for edge in image.size)
  return image.crop((left, top, left + side, top + side))
