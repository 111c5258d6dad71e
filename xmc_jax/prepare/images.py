"""From the bytes of any image file to those that a prepared folder stores."""
from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from xmc_jax.prepare.original import BadImage

CODECS = {'jpeg': 'JPEG', 'png': 'PNG', 'webp': 'WEBP'}
LONGEST = 2       # longer by shorter side of a stored image; what is beyond is cut off
SMALLEST = 8      # an image that would have to be enlarged more than this is none
_FILTER = Image.Resampling.BICUBIC   # Pillow's takes all source pixels into account


@dataclasses.dataclass(frozen=True)
class Storage:
  """How images are stored.

  size     pixels of a side of the square that training takes, S
  margin   the shorter side of a stored image is round(S * margin) pixels, so that the squares
           that a run takes at random differ; 76 / 64 is what the AttnGAN family uses
  codec    "jpeg", "png" or "webp"
  quality  of JPEG and WebP, 1 to 100
  """
  size: int = 256
  margin: float = 1.0
  codec: str = 'jpeg'
  quality: int = 90

  @property
  def shorter(self) -> int:
    """Pixels of the shorter side of a stored image."""
    return round(self.size * self.margin)


@dataclasses.dataclass(frozen=True)
class Stored:
  """`data` of an RGB file, and what was done to the image; `kept` means the original's bytes."""
  data: bytes
  enlarged: bool = False
  cut: bool = False
  kept: bool = False


def store(data: bytes, storage: Storage,
          box: tuple[float, float, float, float] | None = None) -> Stored:
  """Makes the stored file of an image file: upright, RGB, on white, cut, resized, encoded.

  An image that has the right size, mode and codec already keeps its bytes. Colour profiles are not
  applied; of several frames the first counts.

  Args:
    data: of any file that Pillow reads.
    storage: what to make.
    box: x, y, width, height in pixels of the upright image: only a square around it is taken.

  Raises:
    BadImage: it cannot be decoded, is cut short, is huge or has next to no pixels.
  """
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')      # Pillow's remarks on odd files that it can read
    try:
      with Image.open(io.BytesIO(data)) as image:
        return _store(image, data, storage, box)
    except BadImage:
      raise
    except Exception as error:     # Pillow raises all kinds for files that it cannot decode
      raise BadImage(' '.join(f'{type(error).__name__}: {error}'.split())) from error


def _store(image: Image.Image, data: bytes, storage: Storage,
           box: tuple[float, float, float, float] | None) -> Stored:
  codec, mode = image.format, image.mode
  if box is None:
    _draft(image, storage.shorter)
  upright = _upright(image)
  whole = rgb(upright)
  part = whole.crop(square_around(box, whole.size)) if box is not None else whole
  resized, enlarged, cut = resize(part, storage.shorter)
  if resized is whole and upright is image and (codec, mode) == (CODECS[storage.codec], 'RGB'):
    return Stored(data, kept=True)
  file = io.BytesIO()
  options = {} if storage.codec == 'png' else {'quality': storage.quality}
  resized.save(file, CODECS[storage.codec], **options)
  return Stored(file.getvalue(), enlarged, cut)


def _draft(image: Image.Image, shorter: int) -> None:
  """Lets a large JPEG be decoded at 1/2, 1/4 or 1/8, where twice the pixels needed are left."""
  enough = 2 * shorter / min(image.size)
  if image.format == 'JPEG' and enough < 1:
    image.draft(None, tuple(round(side * enough) for side in image.size))


def _upright(image: Image.Image) -> Image.Image:
  """The image as its EXIF orientation wants it seen; the same object where there is none."""
  image.load()
  with contextlib.suppress(Exception):      # a damaged EXIF block is no fault of the image's
    if image.getexif().get(0x0112, 1) != 1:
      return ImageOps.exif_transpose(image)
  return image


def rgb(image: Image.Image) -> Image.Image:
  """Any mode to RGB: transparency on white, 16 bits to their upper 8; RGB is returned as it is."""
  if image.has_transparency_data:
    image = image.convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    return Image.alpha_composite(white, image).convert('RGB')
  if image.mode.startswith(('I', 'F')):
    values = np.asarray(image)
    if values.dtype.kind == 'f' or values.min() < 0 or values.max() > 0xffff:
      raise BadImage(f'pixels of mode {image.mode} have no known white')
    image = Image.fromarray((values >> 8).astype(np.uint8))
  return image if image.mode == 'RGB' else image.convert('RGB')


def square_around(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
  """Left, top, right, bottom of the square around a box, cut at the image's edges.

  The box is x, y, width, height. Half the square's side is int(0.75 * the box's longer side), so
  that the box takes two thirds of it; as AttnGAN (https://github.com/taoxugit/AttnGAN) cuts birds.
  """
  x, y, width, height = box
  half = int(0.75 * max(width, height))
  middle = int((2 * x + width) / 2), int((2 * y + height) / 2)
  left, top = (max(0, place - half) for place in middle)
  right, bottom = (min(side, place + half) for side, place in zip(size, middle, strict=True))
  if left >= right or top >= bottom:
    raise BadImage(f'the box {tuple(box)} is not in the image of {size[0]} x {size[1]} px')
  return left, top, right, bottom


def resize(image: Image.Image, shorter: int) -> tuple[Image.Image, bool, bool]:
  """The image with a shorter side of `shorter` px; whether it was enlarged, whether it was cut.

  A square is later taken anywhere along the longer side. Of a panorama most squares would show
  nothing that its caption speaks of, so only the middle is kept of what is longer than `LONGEST`
  times the shorter side.
  """
  width, height = image.size
  side = min(width, height)
  if side * SMALLEST < shorter:
    raise BadImage(f'it has only {width} x {height} px')
  longest = LONGEST * side
  cut = max(width, height) > longest
  if cut:
    left, top = (max(0, (extent - longest) // 2) for extent in (width, height))
    width, height = min(width, longest), min(height, longest)
    image = image.crop((left, top, left + width, top + height))
  if side != shorter:
    image = image.resize((max(shorter, round(width * shorter / side)),
                              max(shorter, round(height * shorter / side))), _FILTER)
  return image, side < shorter, cut
