"""The evaluation protocols of the literature by name: network, resize, input range and counts.

A distance between sets of images is meaningful only together with these. Published tables mix at
least five protocols, so each has a name here, every score carries it, and scores of different
protocols are never compared by accident. See docs/evaluation.md.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from xmc_jax.encoders import efficientnet, registry
from xmc_jax.encoders.features import Features
from xmc_jax.evals import resize
from xmc_jax.evals.extract import FeatureExtractor
from xmc_jax.types import Array, UserError

# ImageNet statistics of torchvision's networks, of RGB in [0, 1].
_MEAN, _STD = np.float32([[[[0.485, 0.456, 0.406]]], [[[0.229, 0.224, 0.225]]]])[:, None]


@dataclasses.dataclass(frozen=True)
class Protocol:
  """A way to compute FID and related metrics.

  about      who uses it
  weights    name of the network in the registry of weights
  resize     uint8 [b, h, w, 3] and the side to [b, side, side, 3] in [0, 255]
  scale      from [0, 255] to the input range of the network
  on_host    whether `resize` runs in numpy and Pillow, before the device
  side       pixels per side that the network sees
  distance   name of the Frechet distance
  fakes      generated images for a publishable number; None: as many as there are real ones
  reals      reference images for a publishable number; None: the whole held-out split
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

  def feature_extractor(self, random_seed: int | None = None) -> FeatureExtractor:
    """The network with its preprocessing; it has the name of the protocol.

    With `random_seed` the weights are random instead of real, for trials without a download.
    UserError if the weights are not found.
    """
    loaded = registry.load(self.weights, random=random_seed)

    def apply(variables, images) -> Features:
      sized = images if self.on_host else self.resize(images, self.side)
      return loaded.module.apply(variables, self.scale(sized.astype(jnp.float32)))

    preprocess = (lambda images: self.resize(images, self.side)) if self.on_host else None
    return FeatureExtractor(self.name, loaded.variables, apply, preprocess, loaded.sha256)

  def differences(self, fakes: int, reals: int | None) -> list[str]:
    """How an evaluation with these counts deviates from the published one; [] if it does not.

    None: only statistics of the real images are known.
    """
    counts = [('fakes', fakes, self.fakes), ('reals', reals, self.reals)]
    return [*(f'{n:,} {name} instead of {asked:,}' for name, n, asked in counts
              if asked is not None and n is not None and n != asked),
            *(['reals are statistics from a file'] if reals is None else [])]

  def facts(self) -> dict[str, str | int | None]:
    """What the manifest of a score says about the protocol."""
    return {'protocol': self.name, 'network': self.weights, 'resize': self.resize.__name__,
            'side': self.side, 'distance': self.distance}


def centered(x: Array) -> Array:
  """(x - 128) / 128, as in the TensorFlow graph of 2015."""
  return (x - 128) / 128


def full_range(x: Array) -> Array:
  """[0, 255] to [-1, 1]."""
  return 2 * (x / 255) - 1


def narrow_range(x: Array) -> Array:
  """The range bug of DM-GAN's `inception.py`, which DF-GAN and GALIP copied; reproduced on purpose.

  The formula is meant for tensors normalized by ImageNet's mean and deviation, but is given
  [0, 1]: Inception sees red in [-0.03, 0.43], at a fifth of the contrast it was trained with.
  """
  return x / 255 * (_STD / 0.5) + (_MEAN - 0.5) / 0.5


_TF2015 = dict(weights='inception-tf2015')
_TORCHVISION = dict(weights='inception-torchvision', scale=narrow_range)
PROTOCOLS = {p.name: p for p in (
    Protocol('tf2015', 'the standard, for publishing: TTUR, torch-fidelity, StyleGAN, SSA-GAN',
             resize=resize.tf1_bilinear, scale=centered, **_TF2015),
    Protocol('clean', 'clean-fid, GigaGAN: the same network, resized with antialiasing',
             resize=resize.pil_bicubic, scale=centered, on_host=True, **_TF2015),
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


def find(name: str, flag: str = '--protocol') -> Protocol:
  """The protocol with this name; UserError that lists them if there is none."""
  if name not in PROTOCOLS:
    raise UserError(f'{flag}={name}: unknown protocol; choose one of {", ".join(PROTOCOLS)}')
  return PROTOCOLS[name]
