"""The protocols of this literature, by name: network, resize, range, counts and images of reference.

A distance between sets of images is only a number together with these. Published tables mix at
least five of them, so each has a name here, every score carries it, and scores of different
protocols are never compared by accident. docs/evaluation.md tells their story.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from xmc_jax.encoders import efficientnet, registry
from xmc_jax.encoders.features import Features
from xmc_jax.evals import resize
from xmc_jax.evals.extract import Reader
from xmc_jax.types import Array, UserError

# What torchvision's ImageNet networks are trained with, of RGB in [0, 1].
_MEAN, _STD = np.float32([[[[0.485, 0.456, 0.406]]], [[[0.229, 0.224, 0.225]]]])[:, None]


@dataclasses.dataclass(frozen=True)
class Protocol:
  """One way to measure.

  about      whose protocol it is
  weights    name of the network in the registry of weights
  side       pixels of a side that the network sees
  resize     uint8 [b, h, w, 3] and the side to [b, side, side, 3] in [0, 255]
  on_host    whether `resize` runs in numpy and Pillow, before the device
  scale      from [0, 255] to what the network is fed
  distance   what its Frechet distance is called
  fakes      images drawn for a published number; None: as many as there are real ones
  reals      images of reference of a published number; None: the whole held-out split
  """
  name: str
  about: str
  weights: str
  resize: Callable
  scale: Callable[[Array], Array]
  on_host: bool = False
  side: int = 299
  distance: str = 'FID'
  fakes: int | None = 30_000
  reals: int | None = None

  def reader(self, random_seed: int | None = None) -> Reader:
    """The network as a reader of images, named as the protocol.

    With `random_seed` its weights are random instead of real, for trials without a download.
    UserError where the weights are not found.
    """
    loaded = registry.load(self.weights, random=random_seed)

    def read(variables, images) -> Features:
      sized = images if self.on_host else self.resize(images, self.side)
      return loaded.module.apply(variables, self.scale(sized.astype(jnp.float32)))

    prepare = (lambda images: self.resize(images, self.side)) if self.on_host else None
    return Reader(self.name, loaded.variables, read, prepare, loaded.sha256)

  def differences(self, fakes: int, reals: int) -> list[str]:
    """In what a measure with these counts is not the one that is published; empty if it is."""
    rows = [('fakes', fakes, self.fakes), ('reals', reals, self.reals)]
    return [f'{n:,} {name} instead of {asked:,}' for name, n, asked in rows
            if asked is not None and n != asked]

  def facts(self) -> dict[str, str | int | None]:
    """What the manifest of a score says of the protocol."""
    return {'protocol': self.name, 'network': self.weights, 'resize': self.resize.__name__,
            'side': self.side, 'distance': self.distance}


def centred(x: Array) -> Array:
  """(x - 128) / 128, as the TensorFlow graph of 2015 does it."""
  return (x - 128) / 128


def full_range(x: Array) -> Array:
  """[0, 255] to [-1, 1]."""
  return 2 * (x / 255) - 1


def narrow_range(x: Array) -> Array:
  """The range bug of DM-GAN's `inception.py`, which DF-GAN and GALIP copied; on purpose.

  The formula is meant for tensors that are standardised by ImageNet's mean and deviation, and is
  given [0, 1]: Inception sees red in [-0.03, 0.43], at a fifth of the contrast it was trained with.
  """
  return x / 255 * (_STD / 0.5) + (_MEAN - 0.5) / 0.5


_TF2015 = dict(weights='inception-tf2015')
_TORCHVISION = dict(weights='inception-torchvision', scale=narrow_range)
PROTOCOLS = {p.name: p for p in (
    Protocol('tf2015', 'the standard, for publishing: TTUR, torch-fidelity, StyleGAN, SSA-GAN',
             resize=resize.tf1_bilinear, scale=centred, **_TF2015),
    Protocol('clean', 'clean-fid, GigaGAN: the same network, resized with antialiasing',
             resize=resize.pil_bicubic, scale=centred, on_host=True, **_TF2015),
    Protocol('pytorch-fid', 'pytorch-fid: the same network, other resize and range',
             resize=resize.half_pixel_bilinear, scale=full_range, **_TF2015),
    Protocol('legacy-torchvision', 'DF-GAN and GALIP: an ImageNet network, range bug included',
             resize=resize.antialiased_bilinear, **_TORCHVISION),
    Protocol('legacy-torchvision-pil', 'DM-GAN: the same, images resized as files',
             resize=resize.pil_bilinear, on_host=True, **_TORCHVISION),
    Protocol('legacy-keras', "the released XMC-GAN code: Keras' ImageNet network",
             weights='inception-keras', resize=resize.jax_bilinear, scale=full_range,
             reals=30_000),
    Protocol('offline', 'EfficientNet-Lite0, from a small package: for work without downloads',
             weights='efficientnet-lite0', resize=resize.antialiased_bilinear,
             scale=efficientnet.scaled, side=efficientnet.SIDE, distance='FD-lite0', fakes=None),
)}


def find(name: str) -> Protocol:
  """The protocol of a name; UserError that lists them for an unknown one."""
  if name not in PROTOCOLS:
    raise UserError(f'--protocol={name}: there is no such protocol; choose one of '
                    f'{", ".join(PROTOCOLS)}')
  return PROTOCOLS[name]
