"""Features of the reference images, cached on disk under a key of everything they depend on."""
from __future__ import annotations

import functools
import pathlib

import jax

from xmc_jax import encoders, evals
from xmc_jax.encoders.features import Features
from xmc_jax.encoders.registry import RANDOM
from xmc_jax.evals.extract import FeatureCollector, FeatureExtractor
from xmc_jax.evals.image_sets import ImageSet, fingerprint
from xmc_jax.evals.protocols import Protocol
from xmc_jax.utils.hashing import file_sha256, json_sha256
from xmc_jax.weight_files import cache


def features(images: ImageSet, protocol: Protocol, extractor: FeatureExtractor,
             mesh: jax.sharding.Mesh) -> tuple[Features, str]:
  """Features of `images` by the protocol's network, and the sha256 of their pixels.

  They are read from the cache if the same pixels were measured before with the same weights,
  protocol and code on the same kind of device. The key is a hash of exactly these, so a changed
  image, weight file or network never meets stale features.
  """
  pixels = fingerprint(images)
  compute = lambda: FeatureCollector([extractor], mesh)(images)[extractor.name]._asdict()
  if extractor.sha256 == RANDOM:
    return Features(**compute()), pixels
  facts = [protocol.facts(), extractor.sha256, pixels, mesh.devices.flat[0].device_kind,
           _code_sha256()]
  return Features(**cache.arrays('references', facts, compute)), pixels


@functools.cache
def _code_sha256() -> str:
  """The hash of the code that features depend on: of this package and of the networks."""
  folders = [pathlib.Path(package.__file__).parent for package in (encoders, evals)]
  return json_sha256([file_sha256(path) for folder in folders
                      for path in sorted(folder.rglob('*.py'))])
