"""Captions like none of the training are drawn as the nearest one that is known.

A generator that has seen a few thousand captions draws a blend of many for one that is far from all
of them. The image of the nearest caption of training is clear, and more often shows what was asked
for. Retrieving training examples by a text is the idea of KNN-Diffusion (Sheynin et al., arXiv
2204.02849), whose model is conditioned on the images that are found; here a caption takes the place
of a caption, and nothing is trained.
"""
from __future__ import annotations

import jax.numpy as jnp

from xmc_jax.types import Array, Batch, Tree
from xmc_jax.utils.arrays import unit


def nearest(known: Tree, batch: Batch, sentence: Array) -> Batch:
  """The tokens and mask [b, t] of `batch`, or of the nearest known caption.

  Args:
    known: tokens int32 [n, t], mask bool [n, t] and embeddings of length one, sentence [n, e], of
      captions; least []: a caption whose cosine with the nearest is lower is replaced.
    sentence: embeddings [b, e] of the captions.
  """
  cosines = unit(sentence) @ known['sentence'].T
  at, far = cosines.argmax(-1), cosines.max(-1, keepdims=True) < known['least']
  tokens, mask = (jnp.take(known[key], at, axis=0, mode='clip') for key in ('tokens', 'mask'))
  # The mask by logic, since ONNX Runtime does not choose between truth values.
  return {'tokens': jnp.where(far, tokens, batch['tokens']),
          'mask': far & mask | ~far & batch['mask']}
