"""What a frozen image network says of a batch of images."""
from __future__ import annotations

from typing import NamedTuple

from xmc_jax.types import Array


class Features(NamedTuple):
  """pool float32 [b, d], the vector before the classifier; logits float32 [b, k] of its classes."""

  pool: Array
  logits: Array
