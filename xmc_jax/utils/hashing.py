"""SHA-256 of files and of JSON values, in hexadecimal."""
from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from xmc_jax.utils import regular


def file_sha256(path: str | os.PathLike[str]) -> str:
  """SHA-256 of the bytes of a file; OSError if it is none."""
  regular.check(path)
  with open(path, 'rb') as file:
    try:
      return hashlib.file_digest(file, 'sha256').hexdigest()
    except OSError as error:      # of a disk, which does not know the name
      error.filename = str(path)
      raise


def json_sha256(value: Any) -> str:
  """SHA-256 of a value written as JSON with sorted keys, such as a list of captions."""
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
