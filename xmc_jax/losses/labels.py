"""Labels told by a linear classifier: what contrast of labels is compared with."""
import jax
import jax.numpy as jnp

from xmc_jax.types import Array


def label_cross_entropy(logits: Array, labels: Array) -> Array:
  """Cross-entropy of `logits` [b, l] with `labels`, a float32 scalar, the mean over rows.

  labels: int [b], one class a row: softmax. Or float [b, l], amounts of the classes, 0 is absent:
  a sigmoid for each class, and the mean over classes too.
  """
  logits = logits.astype(jnp.float32)
  if labels.ndim == 1:
    told = jax.nn.log_softmax(logits, 1)
    return -jnp.mean(jnp.take_along_axis(told, labels[:, None], 1))
  present = (labels > 0).astype(jnp.float32)
  return jnp.mean(jax.nn.softplus(logits) - present * logits)
