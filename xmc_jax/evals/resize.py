"""The resizes of the protocols: they move a distance 10,000 times as much as a port of a network.

All take uint8 images [b, h, w, 3], or float32 ones of any range, and give float32
[b, side, side, 3] of the same range. `tf1_bilinear`, `half_pixel_bilinear`, `antialiased_bilinear`
and `jax_bilinear` run on the device, inside jit; `pil_bicubic` and `pil_bilinear` are Pillow's own,
on the host, and take uint8 only. Nothing is rounded unless it is said so.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from xmc_jax.types import Array

SIDE = 299  # that of Inception-v3
_LEAST = np.finfo(np.float32).min


def tf1_bilinear(images: Array, side: int = SIDE) -> Array:
  """TensorFlow 1's bilinear: pixel i of the result lies at i * (in / out), without antialias.

  Used by TTUR's FID, torch-fidelity, torchmetrics, StyleGAN-T, and clean-fid's "legacy_tensorflow",
  with images in [0, 255]. On CPUs equal to torch-fidelity's to the bit.
  """
  rows, columns = (np.arange(side, dtype=np.float32) * np.float32(size / side)
                   for size in images.shape[1:3])
  return _bilinear(images, rows, columns)


def half_pixel_bilinear(images: Array, side: int = SIDE) -> Array:
  """Bilinear between the centres of pixels, without antialias: torch's `align_corners=False`.

  Used by pytorch-fid, with images in [0, 1], and clean-fid's "legacy_pytorch", with [0, 255].
  Equal to `torch.nn.functional.interpolate` but for rounding (about 1e-7 of the range).
  """
  # PyTorch rounds the ratio to float32, and a place only once after that.
  rows, columns = (np.maximum((np.arange(side) + 0.5) * float(np.float32(size / side)) - 0.5, 0)
                   for size in images.shape[1:3])
  return _bilinear(images, rows, columns)


def antialiased_bilinear(images: Array, side: int = SIDE) -> Array:
  """Bilinear; where the image shrinks, a triangle as wide as a pixel of the result.

  Used by DF-GAN and GALIP: torchvision's `Resize` of a tensor in [0, 1], in versions that antialias
  by default. At 256 px, which is enlarged, it is `half_pixel_bilinear` in all versions. Their
  `upsample(align_corners=True)` to 299 x 299 after it does nothing at that size, so it is not here.
  """
  shape = (images.shape[0], side, side, images.shape[3])
  return jax.image.resize(jnp.asarray(images, jnp.float32), shape, 'linear',
                          precision=jax.lax.Precision.HIGHEST)


def jax_bilinear(images: Array, side: int = SIDE) -> Array:
  """`jax.image.resize(..., 'bilinear')`, which antialiases by default; no resize at size `side`.

  Used by the released XMC-GAN code, with images in [0, 1]. There products have the precision of
  the backend, bfloat16 on TPUs; here they are float32. It is `antialiased_bilinear` by another way.
  """
  return antialiased_bilinear(images, side)


def pil_bicubic(images: np.ndarray, side: int = SIDE) -> np.ndarray:
  """Pillow's bicubic with antialias, each channel as float32, cut to [0, 255] and not rounded.

  Used by clean-fid's "clean", hence by GigaGAN. Takes and gives [0, 255]; runs on the host.
  """
  def one(channel: np.ndarray) -> np.ndarray:
    image = Image.fromarray(channel.astype(np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))

  resized = [np.stack([one(image[..., c]) for c in range(3)], -1) for image in _uint8(images)]
  return np.clip(resized, 0, 255).reshape(-1, side, side, 3)


def pil_bilinear(images: np.ndarray, side: int = SIDE) -> np.ndarray:
  """Pillow's bilinear with antialias of uint8 images, so the result is whole numbers.

  Used by DM-GAN: torchvision's `Resize((299, 299))` of files. [0, 255]; runs on the host.
  """
  resized = [Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
             for image in _uint8(images)]
  return np.array(resized, np.float32).reshape(-1, side, side, 3)


def _uint8(images: np.ndarray) -> np.ndarray:
  images = np.asarray(images)
  if images.dtype != np.uint8:
    raise TypeError(f'images for Pillow must be uint8, not {images.dtype}')
  return images


def _bilinear(images: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
  """Values at places [side] along both axes; along the columns first, as TensorFlow does it."""
  x = jnp.asarray(images, jnp.float32)
  low, high, share = _neighbours(columns, x.shape[2])
  x = _between(x[:, :, low], x[:, :, high], share[:, None])
  low, high, share = _neighbours(rows, x.shape[1])
  return _between(x[:, low], x[:, high], share[:, None, None])


def _neighbours(places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Of places along an axis the pixels around them, and how far each is from the first."""
  places = places.astype(np.float32)
  low = places.astype(np.int32)
  return low, np.minimum(low + 1, size - 1), places - low.astype(np.float32)


def _between(low: Array, high: Array, share: np.ndarray) -> Array:
  """low + (high - low) * share, rounded after the product as well.

  Without the maximum, which changes no finite number, XLA makes one operation of product and sum
  that rounds once, and a tenth of all results differ in their last bit.
  """
  return low + jnp.maximum((high - low) * share, _LEAST)
