"""Which rows belong together, by their labels: the positives of supervised contrastive losses."""
from __future__ import annotations

import jax.numpy as jnp

from xmc_jax.types import LABEL_RULES, Array, UserError

# Of two sets of classes, given how many they share and how many either has.
_OF_SETS = {
    'exact': lambda shared, either: (shared > 0) & (shared == either),
    'overlap': lambda shared, either: shared > 0,
    'jaccard': lambda shared, either: shared / jnp.maximum(either, 1),
}


def positive_pairs(labels: Array, rule: str = 'exact') -> Array:
  """Positives [m, m] of `labels`, symmetric; UserError for an unknown rule.

  labels: int [m], one class each: equal classes are positive, under every rule but self.
  Or float [m, l], amounts of the classes: 0 is absent, more than 0 present; the rules are those of
  `xmc_jax.types.LABEL_RULES`. `jaccard` returns float32 weights in [0, 1], the others bools. For
  `dominant` the amounts should be areas, not just 0 and 1.
  An example without any class is positive with none, not even with itself; the caller decides what
  examples of the same image should then be.
  """
  if rule not in LABEL_RULES:
    raise UserError(f'the label rule {rule!r} is unknown; choose one of {", ".join(LABEL_RULES)}')
  if rule == 'self':
    return jnp.eye(len(labels), dtype=bool)
  if labels.ndim == 1:
    return labels[:, None] == labels[None, :]
  present = (labels > 0).astype(jnp.float32)
  sizes = present.sum(1)
  if rule == 'dominant':
    top = jnp.argmax(labels, 1)
    return (top[:, None] == top[None, :]) & (sizes > 0)[:, None] & (sizes > 0)[None, :]
  shared = present @ present.T       # exact in any precision: factors 0 and 1, sums in float32
  return _OF_SETS[rule](shared, sizes[:, None] + sizes[None, :] - shared)
