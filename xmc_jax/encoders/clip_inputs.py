"""What CLIP sees: images as normalised squares, captions as word pieces.

Made on the host, but for `see`, which is of networks that are trained through a CLIP.
"""
from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from xmc_jax.types import Array, UserError

if TYPE_CHECKING:      # else late, as the tokeniser's library: steps are measured without them
  from PIL import Image

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of RGB in [0, 1], in CLIP's training images
STD = (0.26862954, 0.26130258, 0.27577711)
LENGTH = 77  # word pieces of a caption, start and end tokens included
START, END = '<|startoftext|>', '<|endoftext|>'
SEEN = ('single', 'released')


def prepare(
    images: Sequence[np.ndarray], side: int, *, crop_first: bool = False) -> np.ndarray:
  """Images as the image tower sees them.

  Args:
    images: uint8 [b, h, w, 3], or b images [h, w, 3] of any sizes.
    side: of the square that the network sees, in pixels.
    crop_first: False resizes the shorter edge to `side` and crops the centre, as CLIP does; True
      crops the centre square and resizes it, as CMMD does. Of square images both make the same.
  Returns:
    float32 [b, side, side, 3], normalised by `MEAN` and `STD`. Resizing is Pillow's bicubic, with
    antialiasing and rounded to uint8. Where an odd number of pixels is cropped, one more goes at
    the end than at the start, as in transformers; torchvision, in OpenAI's code, may do otherwise.
  """
  pixels = np.stack([_square(np.asarray(image), side, crop_first) for image in images])
  return (pixels / np.float32(255) - np.float32(MEAN)) / np.float32(STD)


def see(images: Array, side: int, how: str = 'single') -> Array:
  """Images of a network as the image tower sees them, inside a traced program.

  Args:
    images: float32 [b, s, s, 3] in [0, 1], or beyond: nothing is cut off.
    side: of the square that the tower sees, in pixels.
    how: 'single' resizes as CLIP does, bicubic with antialiasing, and normalises by `MEAN` and
      `STD`. 'released' is what GALIP's code does in training and in its CLIP score: nearest pixels,
      and images that are mapped from [-1, 1] to [0, 1] twice, so that CLIP sees them in [0.5, 1].
  Returns:
    float32 [b, side, side, 3].
  """
  size = images.shape[1]
  if how == 'released':
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
    return np.asarray(_centre(square, min(square.size)).resize((side, side), Image.BICUBIC))
  size = [side * edge // min(square.size) for edge in square.size]
  return np.asarray(_centre(square.resize(size, Image.BICUBIC), side))


def _centre(image: Image.Image, side: int) -> Image.Image:
  left, top = ((edge - side) // 2 for edge in image.size)
  return image.crop((left, top, left + side, top + side))


class ClipTokenizer:
  """CLIP's byte-pair tokeniser, read from a `tokenizer.json` of Hugging Face.

  It gives the tokens of transformers' CLIPTokenizer. OpenAI's own code first repairs wrongly
  decoded text, straightens curly quotes, drops control characters and resolves HTML entities;
  captions are taken as they stand here, so clean them before where that matters.
  """

  def __init__(self, path: str | os.PathLike[str]):
    """Reads `path`, the file `tokenizer.json` or the folder that has it.

    Raises:
      UserError: there is no such file, or it is not of CLIP's kind.
    """
    path = pathlib.Path(path)
    path = path / 'tokenizer.json' if path.is_dir() else path
    import tokenizers
    try:
      self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for an unreadable file
      raise UserError(f'The tokeniser file {path} cannot be read ({error}); replace it with the '
                      'tokenizer.json of a CLIP model.') from error
    self._end = self._tokenizer.token_to_id(END)
    if self._end is None or self._tokenizer.token_to_id(START) is None:
      raise UserError(f"{path} is not a tokeniser of CLIP's kind: it has no {START} or {END}; "
                      'replace it with the tokenizer.json of a CLIP model.')
    self._tokenizer.no_padding()
    self._tokenizer.no_truncation()

  def encode(self, captions: Sequence[str]) -> np.ndarray:
    """Returns int32 [n, 77]: start token, word pieces, end token, then end tokens as padding.

    A caption that is too long loses pieces before its end token. OpenAI's code pads with 0; no
    code changes by that, as the network ends at the first end token.
    """
    tokens = np.full((len(captions), LENGTH), self._end, np.int32)
    for row, encoding in zip(tokens, self._tokenizer.encode_batch(list(captions))):
      pieces = encoding.ids[:LENGTH - 1]  # the last place is left to an end token
      row[:len(pieces)] = pieces
    return tokens
