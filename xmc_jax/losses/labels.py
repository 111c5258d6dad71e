"""Classification of labels by a linear layer, the baseline for contrastive losses with labels."""
from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from xmc_jax.types import Array, Float, Int


@jax.named_call
def label_cross_entropy(logits: Float[Array, 'b l'],
                        labels: Int[Array, 'b'] | Float[Array, 'b l']) -> Float[Array, '']:
  """Cross-entropy of `logits` with `labels`, averaged over the batch, float32.

  labels: one class per example, for a softmax. Or amounts of the classes, where 0 means absent, for
    a sigmoid per class and the mean over classes.
  """
  logits = logits.astype(jnp.float32)
  if labels.ndim == 1:
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels))
  return jnp.mean(optax.losses.sigmoid_binary_cross_entropy(logits, labels > 0))
