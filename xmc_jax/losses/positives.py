"""Positive pairs by label, for supervised contrastive losses."""
from __future__ import annotations

import jax.numpy as jnp

from xmc_jax.types import Array, UserError

# Rules for two sets of classes, from the sizes of their intersection and of their union.
_OF_SETS = {
    'exact': lambda shared, either: (shared > 0) & (shared == either),
    'overlap': lambda shared, either: shared > 0,
    'jaccard': lambda shared, either: shared / jnp.maximum(either, 1),
}
RULES = (*_OF_SETS, 'dominant', 'self')


def positive_pairs(labels: Array, rule: str = 'exact') -> Array:
  """Positive pairs [m, m] of `labels`, symmetric.

  labels: int [m], one class per example: equal classes are positive under every rule but `self`.
    Or float [m, l], amounts of the classes, where 0 means absent.
  rule:
    exact     both examples have the same set of classes
    overlap   they share at least one class
    dominant  their classes with the largest amounts are the same; ties go to the first class, so
              amounts should be areas and not just 0 and 1
    self      an example is positive with itself only, whatever its label: contrast without labels
    jaccard   float32 weights in [0, 1] instead of booleans: shared classes over classes of either

  An example without any class is positive with none, not even itself; callers add the pairs of the
  same image. Raises UserError for an unknown rule.
  """
  if rule not in RULES:
    raise UserError(f'label rule {rule!r}: it is unknown; choose one of {", ".join(RULES)}')
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
