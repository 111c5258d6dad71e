"""Features of the reference images, cached on disk under a key of everything they depend on."""
from __future__ import annotations

import jax

from xmc_jax.encoders.features import Features
from xmc_jax.encoders.registry import RANDOM
from xmc_jax.evals.extract import FeatureCollector, FeatureExtractor
from xmc_jax.evals.image_sets import ImageSet, fingerprint
from xmc_jax.evals.protocols import Protocol
from xmc_jax.weight_files import cache


def features(images: ImageSet, protocol: Protocol, extractor: FeatureExtractor,
             mesh: jax.sharding.Mesh) -> tuple[Features, str]:
  """Features of `images` by the protocol's network, and the sha256 of their pixels.

  They are read from the cache if the same pixels were measured before with the same weights and
  protocol on the same kind of device. The key is a hash of exactly these, so a changed image or
  weight file never meets stale features.
  """
  pixels = fingerprint(images)
  compute = lambda: FeatureCollector([extractor], mesh)(images)[extractor.name]._asdict()
  if extractor.sha256 == RANDOM:
    return Features(**compute()), pixels
  facts = [protocol.facts(), extractor.sha256, pixels, mesh.devices.flat[0].device_kind]
  return Features(**cache.arrays('references', facts, compute)), pixels
