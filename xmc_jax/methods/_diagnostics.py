"""Metrics in [0, 1] of how training stands; nothing is trained on them."""
from __future__ import annotations

import jax.numpy as jnp

from xmc_jax.losses.contrastive import retrieval_accuracy
from xmc_jax.networks.base import ForwardOutputs
from xmc_jax.types import Array


def accuracies(out: ForwardOutputs) -> dict[str, Array]:
  """Of a contrastive discriminator.

  real, fake: share of images that the discriminator classifies correctly. sentence_real,
  sentence_fake: share of images whose nearest caption in the batch, by the discriminator's
  embeddings, is their own. Always over the global batch, whatever `negatives` says, so that runs
  can be compared.
  """
  return {'real': _share(out.d_real.logits[-1] > 0), 'fake': _share(out.d_fake.logits[-1] < 0),
          'sentence_real': retrieval_accuracy(out.d_real.features, out.d_real.sentence),
          'sentence_fake': retrieval_accuracy(out.d_fake.features, out.d_fake.sentence)}


def pair_accuracies(out: ForwardOutputs) -> dict[str, Array]:
  """Of a matching-aware discriminator: share of pairs that its last scale classifies correctly.

  real: real images with their captions. fake: fakes with theirs. wrong: real images with the
  captions of others.
  """
  return {'real': _share(out.d_real.logits[-1] > 0), 'fake': _share(out.d_fake.logits[-1] < 0),
          'wrong': _share(out.d_wrong.logits[-1] < 0)}


def retrieval(out: ForwardOutputs) -> dict[str, Array]:
  """Of an image-text encoder: share whose nearest embedding of the other modality is their own."""
  return {'caption_of_image': retrieval_accuracy(out.real_embedding, out.text.sentence),
          'image_of_caption': retrieval_accuracy(out.text.sentence, out.real_embedding)}


def _share(x: Array) -> Array:
  return jnp.mean(x.astype(jnp.float32))
