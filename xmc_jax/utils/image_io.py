"""Grids of images with captions, and PNG files."""
from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from xmc_jax.types import UserError
from xmc_jax.utils import atomic

_LEAST_SIDE = 96  # minimum side of an image in the grid, in pixels; smaller ones are enlarged
_MOST_LINES = 3
_WHITE = (255, 255, 255)
_INK = (40, 40, 40)


def pixels(images: Any) -> np.ndarray:
  """float32 in [0, 1] to uint8, clipped and rounded. ValueError for NaN and infinity."""
  images = np.asarray(images, np.float32)
  if not np.isfinite(images).all():
    raise ValueError('images hold NaN or infinity')
  return np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)


def grid(
    images: Any, captions: Sequence[str], columns: int, scale: int | None = None
) -> np.ndarray:
  """Arranges images in a grid, each with its caption underneath.

  Args:
    images: float32 [n, h, w, 3] in [0, 1]; values outside are clipped.
    captions: n strings. One that needs more than three lines ends in an ellipsis; a row of empty
      captions takes no space.
    columns: images per row; the last row may be incomplete.
    scale: integer factor by which pixels are repeated; by default the smallest that makes an image
      96 pixels wide.

  Returns:
    uint8 [H, W, 3].

  Raises ValueError if a shape is wrong, a value is not finite, or there are more or fewer captions
  than images.
  """
  images = np.asarray(images, np.float32)
  if images.ndim != 4 or images.shape[-1] != 3 or not len(images):
    raise ValueError(f'images must be [n, h, w, 3] with n > 0, not {list(images.shape)}')
  if len(captions) != len(images):
    raise ValueError(f'{len(images)} images but {len(captions)} captions')
  if columns < 1 or (scale is not None and scale < 1):
    raise ValueError(f'columns and scale must be positive, not {columns} and {scale}')
  scale = scale or -(-_LEAST_SIDE // images.shape[2])
  enlarged = pixels(images).repeat(scale, axis=1).repeat(scale, axis=2)
  height, width = enlarged.shape[1:3]

  columns = min(columns, len(enlarged))
  font = ImageFont.load_default(min(max(width // 14, 12), 18))
  line_height = sum(font.getmetrics()) + 1
  margin = max(6, width // 24)
  lines = [_wrap(caption, font, width) for caption in captions]
  rows = [range(i, min(i + columns, len(lines))) for i in range(0, len(lines), columns)]
  most = [max(len(lines[i]) for i in row) for row in rows]
  text_heights = [count * line_height + 3 if count else 0 for count in most]

  size = (margin + columns * (width + margin),
          margin + sum(height + text + margin for text in text_heights))
  canvas = Image.new('RGB', size, _WHITE)
  draw = ImageDraw.Draw(canvas)
  top = margin
  for row, text_height in zip(rows, text_heights):
    for column, i in enumerate(row):
      left = margin + column * (width + margin)
      canvas.paste(Image.fromarray(enlarged[i]), (left, top))
      for k, line in enumerate(lines[i]):
        draw.text((left, top + height + 3 + k * line_height), line, _INK, font)
    top += height + text_height + margin
  return np.asarray(canvas)


def software_of(path: str | os.PathLike[str]) -> str:
  """What `save_png` wrote into a file as the software; '' if nothing, or if it is no image."""
  try:
    with epath.Path(path).open('rb') as file, Image.open(file) as image:
      return image.info.get('Software', '')
  except (OSError, ValueError, SyntaxError):      # as Pillow says it
    return ''


def save_png(path: str | os.PathLike[str], array: np.ndarray, software: str = '') -> None:
  """Writes uint8 [H, W, 3] as a PNG file; creates missing folders and leaves no partial file.

  software: what the file says of itself under the key `Software`.
  Raises ValueError if the array is of another type or shape. Raises UserError if the file cannot be
  written.
  """
  if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
    raise ValueError(f'an image is uint8 [H, W, 3], not {array.dtype} {list(array.shape)}')
  path = epath.Path(path)
  encoded = io.BytesIO()
  facts = PngImagePlugin.PngInfo()
  if software:
    facts.add_text('Software', software)
  Image.fromarray(array).save(encoded, 'PNG', pnginfo=facts)
  try:
    atomic.save(path, encoded.getvalue())
  except OSError as error:
    raise UserError(
        f'{path}: cannot be written ({error.strerror or error}); give a path in a folder that you '
        'can write to') from error


def _wrap(caption: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
  """Breaks a caption into at most three lines of `width` pixels, the third with an ellipsis."""
  # A lone surrogate (from a badly decoded file) cannot be encoded for the font.
  words = caption.encode('utf-8', 'replace').decode('utf-8').replace('\0', ' ').split()
  fits = lambda text: font.getlength(text) <= width
  lines: list[str] = []
  while words and len(lines) < _MOST_LINES:
    line = words.pop(0)
    if not fits(line):  # a single word is wider than the image: break it
      most = next((k for k in range(len(line) - 1, 1, -1) if fits(line[:k])), 1)
      line, rest = line[:most], line[most:]
      if rest:
        words.insert(0, rest)
    else:
      while words and fits(f'{line} {words[0]}'):
        line = f'{line} {words.pop(0)}'
    lines.append(line)
  if words:
    last = lines[-1]
    while last and not fits(f'{last}…'):
      last = last[:-1]
    lines[-1] = f'{last.rstrip()}…'
  return lines
