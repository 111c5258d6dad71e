"""Converts image files of any kind to the files that a prepared data set stores."""
from __future__ import annotations

import dataclasses
import io
import re
import warnings
from collections.abc import Sequence

from PIL import Image, UnidentifiedImageError

from xmc_jax.data.image_folder import to_rgb, upright
from xmc_jax.prepare.original import BadImage
from xmc_jax.utils import regular

CODECS = {'jpeg': 'JPEG', 'png': 'PNG', 'webp': 'WEBP'}
LONGEST = 2       # largest ratio of the sides of a stored image; longer images are cropped
SMALLEST = 8      # an image that needs a larger magnification is unusable
_ADDRESS = re.compile(r' at 0x[0-9a-f]+')   # differs from run to run
_FILTER = Image.Resampling.BICUBIC   # antialiased in Pillow


@dataclasses.dataclass(frozen=True)
class Storage:
  """How images are stored.

  Attributes:
    size: S, side in pixels of the square that training crops.
    margin: the shorter side of a stored image is round(S * margin) pixels. Above 1, random crops
      differ in both directions; the AttnGAN family uses 76 / 64.
    codec: "jpeg", "png" or "webp".
    quality: of JPEG and WebP, 1 to 100.
  """
  size: int = 256
  margin: float = 1.0
  codec: str = 'jpeg'
  quality: int = 90

  @property
  def shorter(self) -> int:
    """Shorter side of a stored image in pixels."""
    return round(self.size * self.margin)


@dataclasses.dataclass(frozen=True)
class EncodedImage:
  """The bytes of an RGB image file to be stored, and what was done to the original.

  Attributes:
    data: of the file.
    enlarged: whether the image was enlarged.
    cut: whether the ends of a long image were cut off.
    kept: whether `data` are the bytes of the original file.
  """
  data: bytes
  enlarged: bool = False
  cut: bool = False
  kept: bool = False


def store(data: bytes, storage: Storage,
          box: tuple[float, float, float, float] | None = None) -> EncodedImage:
  """Converts an image file: turned upright, RGB on white, cropped, resized, encoded.

  A file that already has the right size, mode and codec keeps its bytes. Color profiles are not
  applied. Of several frames the first is taken.

  Args:
    data: bytes of a file of any kind that Pillow reads.
    storage: what to make.
    box: x, y, width, height in pixels of the upright image; only a square around it is kept.

  Raises:
    BadImage: the image cannot be decoded, is truncated, is huge or has almost no pixels.
  """
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')      # Pillow warns about odd files that it can read
    try:
      with Image.open(io.BytesIO(data)) as image:
        return _store(image, data, storage, box)
    except (BadImage, MemoryError):      # for want of memory no image is left out
      raise
    except UnidentifiedImageError as error:     # whose text has a memory address
      pointer = data.startswith(regular.POINTER)
      raise BadImage('it is a pointer of git-lfs; run `git lfs pull`' if pointer else
                     'it is no image of a kind that can be read') from error
    except Image.DecompressionBombError as error:
      most = 2 * Image.MAX_IMAGE_PIXELS
      raise BadImage(f'it has more than {most:,} px; make it smaller') from error
    except Exception as error:     # Pillow raises many kinds of errors for broken files
      why = _ADDRESS.sub('', ' '.join(f'{type(error).__name__}: {error}'.split()))
      raise BadImage(why) from error


def _store(image: Image.Image, data: bytes, storage: Storage,
           box: tuple[float, float, float, float] | None) -> EncodedImage:
  codec, mode = image.format, image.mode
  if box is None:
    _draft(image, storage.shorter)
  turned = upright(image)
  whole = to_rgb(turned)
  part = whole.crop(square_around(box, whole.size)) if box is not None else whole
  resized, enlarged, cut = resize(part, storage.shorter)
  untouched = resized is whole is turned is image      # transparency, for one, is put on white
  if untouched and (codec, mode) == (CODECS[storage.codec], 'RGB'):
    return EncodedImage(data, kept=True)
  file = io.BytesIO()
  options = {} if storage.codec == 'png' else {'quality': storage.quality}
  resized.save(file, CODECS[storage.codec], **options)
  return EncodedImage(file.getvalue(), enlarged, cut)


def _draft(image: Image.Image, shorter: int) -> None:
  """Decodes a large JPEG at 1/2, 1/4 or 1/8 if that leaves at least twice the pixels needed."""
  enough = 2 * shorter / min(image.size)
  if image.format == 'JPEG' and enough < 1:
    image.draft(None, tuple(round(side * enough) for side in image.size))


def square_around(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
  """Returns left, top, right, bottom of the square around a box, clipped to the image.

  The box is x, y, width, height. Half the square's side is int(0.75 * the box's longer side), so
  the box fills two thirds of it, as in AttnGAN (https://github.com/taoxugit/AttnGAN).
  """
  x, y, width, height = box
  half = int(0.75 * max(width, height))
  middle = int((2 * x + width) / 2), int((2 * y + height) / 2)
  left, top = (max(0, place - half) for place in middle)
  right, bottom = (min(side, place + half) for side, place in zip(size, middle, strict=True))
  if left >= right or top >= bottom:
    raise BadImage(f'the box {tuple(box)} is outside the image of {size[0]} x {size[1]} px')
  return left, top, right, bottom


def resize(image: Image.Image, shorter: int) -> tuple[Image.Image, bool, bool]:
  """Returns the image with a shorter side of `shorter` px, and whether it was enlarged and cut.

  Training crops a square anywhere along the longer side. Most squares of a panorama would show
  nothing that its caption mentions, so only the middle is kept of an image whose longer side
  exceeds `LONGEST` times the shorter one.
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
