"""Features of the images of reference, kept on disk by what they are made from."""
from __future__ import annotations

import pathlib

import jax
import numpy as np

from xmc_jax.encoders.features import Features
from xmc_jax.encoders.registry import RANDOM
from xmc_jax.evals.extract import Collector, Reader
from xmc_jax.evals.image_sets import Images, fingerprint
from xmc_jax.evals.protocols import Protocol
from xmc_jax.evals.results import sha256
from xmc_jax.utils import atomic
from xmc_jax.weight_files import files


def features(images: Images, protocol: Protocol, reader: Reader,
             mesh: jax.sharding.Mesh) -> tuple[Features, str]:
  """Features of images by the protocol's network, and the hash of the images' pixels.

  Where the same images were measured before with the same weights and the same protocol on the
  same kind of device, they are read from the cache folder; nothing else decides, so that a changed
  image or another file of weights never meets old features. Several processes, whose folders may
  differ, always measure together.
  """
  pixels = fingerprint(images)
  key = sha256([protocol.facts(), reader.sha256, pixels, mesh.devices.flat[0].device_kind])
  path = files.folders()[-1].parent / 'references' / f'{key}.npz'
  keep = reader.sha256 != RANDOM and jax.process_count() == 1
  if keep and path.exists():
    try:
      with np.load(path, allow_pickle=False) as file:
        return Features(file['pool'], file['logits']), pixels
    except (OSError, ValueError, KeyError, EOFError):
      pass                              # cut short by a kill: made anew
  found = Collector([reader], mesh)(images)[reader.name]
  if keep:
    _save(path, found)
  return found, pixels


def _save(path: pathlib.Path, found: Features) -> None:
  """Whole or not at all; a folder that cannot be written to costs the time alone."""
  try:
    with atomic.whole(path) as unfinished, open(unfinished, 'wb') as file:
      np.savez(file, **found._asdict())
  except OSError as error:
    print(f'features of reference could not be kept in {path.parent} ({error.strerror or error})')
