"""The resize operations of the protocols.

Their differences change a distance 10,000 times as much as porting a network does. All take uint8
images [b, h, w, 3], or float32 ones of any range, and return float32 [b, side, side, 3] of the same
range. `tf1_bilinear`, `half_pixel_bilinear`, `antialiased_bilinear` and `jax_bilinear` run on the
device, inside jit. `pil_bicubic` and `pil_bilinear` are Pillow's own, run on the host, and take
uint8 only. Nothing is rounded unless stated.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from xmc_jax.types import Array

SIDE = 299  # of Inception-v3
_LEAST = np.finfo(np.float32).min


def tf1_bilinear(images: Array, side: int = SIDE) -> Array:
  """TensorFlow 1's bilinear: output pixel i is sampled at i * (in / out), without antialiasing.

  Used by TTUR's FID, torch-fidelity, torchmetrics, StyleGAN-T, and clean-fid's "legacy_tensorflow",
  with images in [0, 255]. On CPUs it equals torch-fidelity's bit for bit.
  """
  rows, columns = (np.arange(side, dtype=np.float32) * np.float32(size / side)
                   for size in images.shape[1:3])
  return _bilinear(images, rows, columns)


def half_pixel_bilinear(images: Array, side: int = SIDE) -> Array:
  """Bilinear with half-pixel centers, without antialiasing: torch's `align_corners=False`.

  Used by pytorch-fid, with images in [0, 1], and clean-fid's "legacy_pytorch", with [0, 255].
  Equal to `torch.nn.functional.interpolate` up to rounding (about 1e-7 of the range).
  """
  # PyTorch rounds the ratio to float32, and the sampling position only once after that.
  rows, columns = (np.maximum((np.arange(side) + 0.5) * float(np.float32(size / side)) - 0.5, 0)
                   for size in images.shape[1:3])
  return _bilinear(images, rows, columns)


def antialiased_bilinear(images: Array, side: int = SIDE) -> Array:
  """Bilinear; when shrinking, with a triangle filter as wide as an output pixel.

  Used by DF-GAN and GALIP: torchvision's `Resize` of a tensor in [0, 1], in versions that antialias
  by default. For 256 px images, which are enlarged, it is `half_pixel_bilinear` in all versions.
  Their `upsample(align_corners=True)` to 299 x 299 after it does nothing at that size, so it is not
  reproduced here.
  """
  shape = (images.shape[0], side, side, images.shape[3])
  return jax.image.resize(jnp.asarray(images, jnp.float32), shape, 'linear',
                          precision=jax.lax.Precision.HIGHEST)


def jax_bilinear(images: Array, side: int = SIDE) -> Array:
  """`jax.image.resize(..., 'bilinear')`, which antialiases by default; no resize at size `side`.

  Used by the released XMC-GAN code, with images in [0, 1]. Its products have the default precision
  of the backend, bfloat16 on TPUs; here they are float32. The result is that of
  `antialiased_bilinear`; the protocols differ in name.
  """
  return antialiased_bilinear(images, side)


def pil_bicubic(images: np.ndarray, side: int = SIDE) -> np.ndarray:
  """Pillow's antialiased bicubic, each channel as float32, clipped to [0, 255] and not rounded.

  Used by clean-fid's "clean", hence by GigaGAN. Input and output are in [0, 255]; on the host.
  """
  def one(channel: np.ndarray) -> np.ndarray:
    image = Image.fromarray(channel.astype(np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))

  resized = [np.stack([one(image[..., c]) for c in range(3)], -1) for image in _uint8(images)]
  return np.clip(resized, 0, 255).reshape(-1, side, side, 3)


def pil_bilinear(images: np.ndarray, side: int = SIDE) -> np.ndarray:
  """Pillow's antialiased bilinear on uint8 images, so the result is whole numbers.

  Used by DM-GAN: torchvision's `Resize((299, 299))` of files. In [0, 255]; on the host.
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
  """Samples at positions [side] along both axes; columns first, as TensorFlow does."""
  x = jnp.asarray(images, jnp.float32)
  low, high, weight = _neighbors(columns, x.shape[2])
  x = _interpolate(x[:, :, low], x[:, :, high], weight[:, None])
  low, high, weight = _neighbors(rows, x.shape[1])
  return _interpolate(x[:, low], x[:, high], weight[:, None, None])


def _neighbors(positions: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The two pixels around each position, and the weight of the second."""
  positions = positions.astype(np.float32)
  low = positions.astype(np.int32)
  return low, np.minimum(low + 1, size - 1), positions - low.astype(np.float32)


def _interpolate(low: Array, high: Array, weight: np.ndarray) -> Array:
  """low + (high - low) * weight, with the product rounded before the sum.

  The maximum changes no finite number. Without it XLA fuses product and sum into one operation that
  rounds once, and a tenth of all results differ in their last bit.
  """
  return low + jnp.maximum((high - low) * weight, _LEAST)
