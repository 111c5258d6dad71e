"""DAMSM in training: both encoders run on real pairs, without a generator; see `encoders.damsm`."""
from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import linen as nn

from xmc_jax.encoders import damsm
from xmc_jax.networks.base import Forward, ForwardOutputs, Text
from xmc_jax.types import Array, Batch, Tree


class LabelClassifiers(nn.Module):
  """Linear classifiers of labels from both embeddings, the baseline for contrast by labels."""
  classes: int

  @nn.compact
  def __call__(self, image: Array, caption: Array) -> tuple[Array, Array]:
    """Embeddings [b, e] of images and captions to logits [b, classes] of each."""
    return (nn.Dense(self.classes, name='image')(image),
            nn.Dense(self.classes, name='caption')(caption))


def init_classifiers(classes: int, rng: Array, features: int) -> Tree:
  """Initial parameters of `LabelClassifiers` of embeddings with so many features."""
  embedding = jax.numpy.zeros((1, features))
  return LabelClassifiers(classes).init(rng, embedding, embedding)['params']


def classify(encoder: Tree, image: Array, caption: Array) -> tuple[Array, ...]:
  """The logits of the classifiers among an encoder's parameters; () if there are none."""
  if 'classifiers' not in encoder:
    return ()
  params = encoder['classifiers']
  return LabelClassifiers(params['image']['bias'].size).apply({'params': params}, image, caption)


@dataclasses.dataclass(frozen=True)
class DamsmNetworks(Forward):
  """The network "encoder" of DAMSM: its parameters are `captions` and `images`.

  With `classes` > 0 there are also `classifiers` of that many labels. `frozen["image"]` are the
  variables of the image backbone.
  """
  network: damsm.Damsm
  classes: int = 0

  def init(self, rng: Array, batch: Batch) -> dict[str, Any]:
    del batch
    rng, second = jax.random.split(rng)
    params = damsm.create(self.network, rng)
    if self.classes:
      params['classifiers'] = init_classifiers(self.classes, second, self.network.width)
    return {'encoder': {'params': params}}

  def forward(self, params: dict[str, Tree], stats: dict[str, Tree], frozen: dict[str, Tree],
              batch: Batch, rngs: Array) -> tuple[ForwardOutputs, dict[str, Tree]]:
    """Fills text, real_embedding, real_regions and, with classes, label_logits."""
    variables = damsm.with_backbone(params['encoder'], frozen['image'])
    words, sentence = self.network.apply(variables, batch['tokens'], batch['mask'], rngs,
                                         method='text')
    embedding, regions = self.network.apply(variables, batch['image'], method='image')
    outputs = ForwardOutputs(
        batch, Text(words, batch['mask'], sentence), real_embedding=embedding,
        real_regions=regions, label_logits=classify(params['encoder'], embedding, sentence))
    return outputs, stats
