"""Positive pairs by label, for supervised contrastive losses."""
from __future__ import annotations

import jax.numpy as jnp

from xmc_jax.types import LABEL_RULES, Array, Shaped, UserError

# Rules for two sets of classes, from the sizes of their intersection and of their union.
_OF_SETS = {
    'exact': lambda shared, either: (shared > 0) & (shared == either),
    'overlap': lambda shared, either: shared > 0,
    'jaccard': lambda shared, either: shared / jnp.maximum(either, 1),
}


def positive_pairs(labels: Shaped[Array, 'm *l'], rule: str = 'exact') -> Shaped[Array, 'm m']:
  """Positive pairs of `labels`, symmetric.

  labels: int [m], one class per example: equal classes are positive under every rule but `self`.
    Or float [m, l], amounts of the classes, where 0 means absent.
  rule: one of `xmc_jax.types.LABEL_RULES`. `jaccard` gives float32 weights in [0, 1], the others
    booleans. For `dominant` the amounts should be areas, not just 0 and 1.

  An example without any class is positive with none, not even itself; callers add the pairs of the
  same image. Raises UserError for an unknown rule.
  """
  if rule not in LABEL_RULES:
    raise UserError(f'label rule {rule!r}: it is unknown; choose one of {", ".join(LABEL_RULES)}')
  if rule == 'self':
    return jnp.eye(len(labels), dtype=bool)
  if labels.ndim == 1:
    return labels[:, None] == labels[None, :]
  present = (labels > 0).astype(jnp.float32)
  sizes = present.sum(1)
  if rule == 'dominant':
    top = jnp.argmax(labels, 1)
    return (top[:, None] == top[None, :]) & (sizes > 0)[:, None] & (sizes > 0)[None, :]
  shared = present @ present.T       # exact in any precision: the factors are 0 and 1
  return _OF_SETS[rule](shared, sizes[:, None] + sizes[None, :] - shared)
