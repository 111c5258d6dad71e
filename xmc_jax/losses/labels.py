"""Classification of labels by a linear layer, the baseline for contrastive losses with labels."""
import jax
import jax.numpy as jnp

from xmc_jax.types import Array


@jax.named_call
def label_cross_entropy(logits: Array, labels: Array) -> Array:
  """Cross-entropy of `logits` [b, l] with `labels`, averaged over the batch; a float32 scalar.

  labels: int [b], one class per example, for a softmax. Or float [b, l], amounts of the classes
    where 0 means absent, for a sigmoid per class and the mean over classes.
  """
  logits = logits.astype(jnp.float32)
  if labels.ndim == 1:
    log_probabilities = jax.nn.log_softmax(logits, 1)
    return -jnp.mean(jnp.take_along_axis(log_probabilities, labels[:, None], 1))
  present = (labels > 0).astype(jnp.float32)
  return jnp.mean(jax.nn.softplus(logits) - present * logits)
