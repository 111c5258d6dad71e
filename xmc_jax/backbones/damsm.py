"""DAMSM while it is trained: both encoders on real pairs, no generator; see `encoders.damsm`."""
from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import linen as nn

from xmc_jax.branch import Branch, Text
from xmc_jax.encoders import damsm
from xmc_jax.types import Array, Batch, Tree


class Tellers(nn.Module):
  """Linear classifiers of the two codes, where labels are told instead of contrasted."""

  classes: int

  @nn.compact
  def __call__(self, picture: Array, caption: Array) -> tuple[Array, Array]:
    """Codes [b, e] of pictures and captions to logits [b, classes] of each."""
    return (nn.Dense(self.classes, name='picture')(picture),
            nn.Dense(self.classes, name='caption')(caption))


@dataclasses.dataclass(frozen=True)
class DamsmBackbone:
  """See `branch.Backbone`. The one player is "towers": `captions`, `pictures` and, with `classes`,
  `tellers` of so many; `frozen["image"]` are the variables of the image trunk.
  """

  network: damsm.Damsm
  classes: int = 0

  def init(self, rng: Array, batch: Batch) -> dict[str, Any]:
    del batch
    rng, second = jax.random.split(rng)
    params = damsm.create(self.network, rng)
    if self.classes:
      code = jax.numpy.zeros((1, self.network.width))
      params['tellers'] = Tellers(self.classes).init(second, code, code)['params']
    return {'towers': {'params': params}}

  def stage(self, params: dict[str, Tree], stats: dict[str, Tree], frozen: dict[str, Tree],
            batch: Batch, rngs: Array) -> tuple[Branch, dict[str, Tree]]:
    """Fills text, real_code, real_regions and, with classes, label_logits."""
    variables = damsm.with_trunk(params['towers'], frozen['image'])
    words, sentence = self.network.apply(variables, batch['tokens'], batch['mask'], rngs,
                                         method='text')
    code, regions = self.network.apply(variables, batch['image'], method='image')
    logits = ()
    if self.classes:
      told = Tellers(self.classes)
      logits = told.apply({'params': params['towers']['tellers']}, code, sentence)
    return Branch(batch, Text(words, batch['mask'], sentence), real_code=code,
                  real_regions=regions, label_logits=logits), stats
