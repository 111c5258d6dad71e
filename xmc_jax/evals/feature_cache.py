"""Features of the reference images, cached on disk under a key of everything they depend on."""
from __future__ import annotations

import pathlib

import jax
import numpy as np

from xmc_jax.encoders.features import Features
from xmc_jax.encoders.registry import RANDOM
from xmc_jax.evals.extract import FeatureCollector, FeatureExtractor
from xmc_jax.evals.image_sets import ImageSet, fingerprint
from xmc_jax.evals.protocols import Protocol
from xmc_jax.utils import atomic
from xmc_jax.utils.hashing import json_sha256
from xmc_jax.weight_files import files


def features(images: ImageSet, protocol: Protocol, extractor: FeatureExtractor,
             mesh: jax.sharding.Mesh) -> tuple[Features, str]:
  """Features of `images` by the protocol's network, and the sha256 of their pixels.

  They are read from the cache if the same pixels were measured before with the same weights and
  protocol on the same kind of device. The key is a hash of exactly these, so a changed image or
  weight file never meets stale features. With several processes the cache is not used, because
  their disks may differ and they must agree.
  """
  pixels = fingerprint(images)
  key = json_sha256([protocol.facts(), extractor.sha256, pixels, mesh.devices.flat[0].device_kind])
  path = files.folders()[-1].parent / 'references' / f'{key}.npz'
  use_cache = extractor.sha256 != RANDOM and jax.process_count() == 1
  if use_cache and path.exists():
    try:
      with np.load(path, allow_pickle=False) as file:
        return Features(file['pool'], file['logits']), pixels
    except (OSError, ValueError, KeyError, EOFError):
      pass                              # truncated, e.g. by a kill: compute them again
  found = FeatureCollector([extractor], mesh)(images)[extractor.name]
  if use_cache:
    _save(path, found)
  return found, pixels


def _save(path: pathlib.Path, found: Features) -> None:
  """Writes the file atomically; a folder that is not writable only costs time."""
  try:
    with atomic.whole(path) as unfinished, open(unfinished, 'wb') as file:
      np.savez(file, **found._asdict())
  except OSError as error:
    print(f'reference features could not be cached in {path.parent} ({error.strerror or error})')
