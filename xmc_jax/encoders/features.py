"""The output of a frozen image network, and the shapes of its variables."""
from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from xmc_jax.types import Array, Tree


class Features(NamedTuple):
  """pool float32 [b, d], the input of the classifier; logits float32 [b, k] of its classes."""

  pool: Array
  logits: Array


def variables_spec(module: nn.Module, side: int) -> Tree:
  """Shapes and dtypes of the variables of a network with input images of `side` pixels."""
  images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  return jax.eval_shape(module.init, jax.random.key(0), images)
