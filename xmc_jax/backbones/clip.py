"""CLIP while it is trained: both towers on real pairs, no generator; see `encoders.clip`."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from xmc_jax.backbones.damsm import Tellers
from xmc_jax.branch import Branch, Text
from xmc_jax.encoders import clip, clip_inputs
from xmc_jax.types import Array, Batch, Tree

TOWERS, HEAD = ('image_tower', 'text_tower'), 'project'


def heads(params: Tree) -> Tree:
  """Of the parameters of a CLIP the linear maps into the common space."""
  return {tower: {HEAD: params[tower][HEAD]} for tower in TOWERS}


def without_heads(params: Tree) -> Tree:
  return {tower: {k: v for k, v in params[tower].items() if k != HEAD} for tower in TOWERS}


@dataclasses.dataclass(frozen=True)
class ClipBackbone:
  """See `branch.Backbone`. The one player is "towers": both towers, or their heads alone, and with
  `classes` the `tellers` of so many. What is not trained is `frozen["clip"]`.

  start: reads the parameters of the network that training begins with; None: random ones.
  """
  network: clip.Clip
  start: Callable[[], Tree] | None = None
  heads_only: bool = False
  clip_input: str = 'single'
  classes: int = 0

  def init(self, rng: Array, batch: Batch) -> dict[str, Any]:
    del batch
    rng, second = jax.random.split(rng)
    part = heads if self.heads_only else lambda params: params
    if self.start:       # by a call of the host, since as constants they would swell the program
      wanted = part(clip.spec(self.network)['params'])
      params = jax.pure_callback(lambda: jax.device_get(part(self.start())), wanted)
    else:
      side = self.network.config.side
      params = part(self.network.init(rng, jnp.zeros((1, side, side, 3)),
                                      jnp.zeros((1, 2), jnp.int32))['params'])
    if self.classes:
      code = jnp.zeros((1, self.network.config.size))
      params = {**params, 'tellers': Tellers(self.classes).init(second, code, code)['params']}
    return {'towers': {'params': params}}

  def stage(self, params: dict[str, Tree], stats: dict[str, Tree], frozen: dict[str, Tree],
            batch: Batch, rngs: Array) -> tuple[Branch, dict[str, Tree]]:
    """Fills text, real_code and, with classes, label_logits."""
    variables = {'params': self.whole(params['towers'], frozen)}
    words, sentence = self.network.apply(variables, batch['tokens'], method='read')
    pixels = clip_inputs.see(batch['image'], self.network.config.side, self.clip_input)
    code = self.network.apply(variables, pixels, method='image')
    logits = ()
    if self.classes:
      logits = Tellers(self.classes).apply({'params': params['towers']['tellers']}, code, sentence)
    return Branch(batch, Text(words, batch['mask'], sentence), real_code=code,
                  label_logits=logits), stats

  def whole(self, towers: Tree, frozen: dict[str, Tree]) -> Tree:
    """All parameters of the network, of those that are trained and those that are not."""
    return {tower: {**(frozen['clip']['params'][tower] if self.heads_only else {}),
                    **towers[tower]} for tower in TOWERS}
