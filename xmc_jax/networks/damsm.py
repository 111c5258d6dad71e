"""DAMSM while it is trained: both encoders on real pairs, no generator; see `encoders.damsm`."""
from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import linen as nn

from xmc_jax.encoders import damsm
from xmc_jax.networks.base import Forward, ForwardOutputs, Text
from xmc_jax.types import Array, Batch, Tree


class LabelClassifiers(nn.Module):
  """Linear label classifiers of both embeddings, in place of a contrast by labels."""

  classes: int

  @nn.compact
  def __call__(self, image: Array, caption: Array) -> tuple[Array, Array]:
    """Embeddings [b, e] of images and captions to logits [b, classes] of each."""
    return (nn.Dense(self.classes, name='image')(image),
            nn.Dense(self.classes, name='caption')(caption))


@dataclasses.dataclass(frozen=True)
class DamsmNetworks(Forward):
  """The one network is "encoder": `captions`, `images` and, with
  `classes`, `classifiers` of so many; `frozen["image"]` are the variables of the image backbone.
  """

  network: damsm.Damsm
  classes: int = 0

  def init(self, rng: Array, batch: Batch) -> dict[str, Any]:
    del batch
    rng, second = jax.random.split(rng)
    params = damsm.create(self.network, rng)
    if self.classes:
      embedding = jax.numpy.zeros((1, self.network.width))
      params['classifiers'] = LabelClassifiers(self.classes).init(second, embedding, embedding)[
        'params'
      ]
    return {'encoder': {'params': params}}

  def forward(self, params: dict[str, Tree], stats: dict[str, Tree], frozen: dict[str, Tree],
            batch: Batch, rngs: Array) -> tuple[ForwardOutputs, dict[str, Tree]]:
    """Fills text, real_embedding, real_regions and, with classes, label_logits."""
    variables = damsm.with_backbone(params['encoder'], frozen['image'])
    words, sentence = self.network.apply(variables, batch['tokens'], batch['mask'], rngs,
                                         method='text')
    embedding, regions = self.network.apply(variables, batch['image'], method='image')
    logits = ()
    if self.classes:
      classifiers = LabelClassifiers(self.classes)
      logits = classifiers.apply({'params': params['encoder']['classifiers']}, embedding, sentence)
    return ForwardOutputs(batch, Text(words, batch['mask'], sentence), real_embedding=embedding,
                  real_regions=regions, label_logits=logits), stats
