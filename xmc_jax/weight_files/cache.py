"""Arrays that took long to compute, kept on disk under a hash of everything they depend on."""
from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from xmc_jax.utils import atomic, mirror
from xmc_jax.utils.hashing import json_sha256


def arrays(kind: str, facts: Any, compute: Callable[[], Mapping[str, np.ndarray]]
           ) -> dict[str, np.ndarray]:
  """What `compute` gives, or gave before for the same facts.

  Several processes always compute, because their disks may differ and they must agree.

  Args:
    kind: the folder beside that of the weights, a word for what is kept.
    facts: what the arrays depend on, as JSON. They are kept under its hash, so that a changed file
      or setting never meets stale arrays.
  """
  path = mirror.cache_folder() / kind / f'{json_sha256(facts)}.npz'
  use_cache = jax.process_count() == 1
  if use_cache and path.exists():
    try:
      with np.load(path, allow_pickle=False) as file:
        return dict(file)
    except Exception:      # a damaged archive can fail in any way: compute them again
      pass
  found = dict(compute())
  if use_cache:
    _save(path, found)
  return found


def _save(path: pathlib.Path, found: Mapping[str, np.ndarray]) -> None:
  """Writes the file atomically; a folder that is not writable only costs time."""
  try:
    with atomic.whole(path) as unfinished, open(unfinished, 'wb') as file:
      np.savez(file, **found)
  except OSError as error:
    print(f'{path.parent.name} could not be cached in {path.parent} ({error.strerror or error})')
