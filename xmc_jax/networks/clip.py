"""CLIP in training: both encoders run on real pairs; there is no generator. See `encoders.clip`."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from xmc_jax.encoders import clip, clip_inputs
from xmc_jax.networks.base import Forward, ForwardOutputs, Text
from xmc_jax.networks.damsm import classify, init_classifiers
from xmc_jax.types import Array, Batch, Tree

TRANSFORMERS, HEAD = ('image_transformer', 'text_transformer'), 'project'


def heads(params: Tree) -> Tree:
  """The linear maps into the common space, among the parameters of a CLIP."""
  return {transformer: {HEAD: params[transformer][HEAD]} for transformer in TRANSFORMERS}


def without_heads(params: Tree) -> Tree:
  return {transformer: {k: v for k, v in params[transformer].items() if k != HEAD}
          for transformer in TRANSFORMERS}


@dataclasses.dataclass(frozen=True)
class ClipNetworks(Forward):
  """The network "encoder" of CLIP: both encoders, or only their heads.

  With `classes` > 0 it also has `classifiers` of that many labels. Parameters that are not trained
  are `frozen["clip"]`.

  start: reads the initial parameters of the network; None for random ones.
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
      classifiers = init_classifiers(self.classes, second, self.network.config.size)
      params = {**params, 'classifiers': classifiers}
    return {'encoder': {'params': params}}

  def forward(self, params: dict[str, Tree], stats: dict[str, Tree], frozen: dict[str, Tree],
              batch: Batch, rngs: Array) -> tuple[ForwardOutputs, dict[str, Tree]]:
    """Fills text, real_embedding and, with classes, label_logits."""
    variables = {'params': self.whole(params['encoder'], frozen)}
    words, sentence = self.network.apply(variables, batch['tokens'], method='token_features')
    pixels = clip_inputs.preprocess_on_device(batch['image'], self.network.config.side,
                                              self.clip_input)
    embedding = self.network.apply(variables, pixels, method='image')
    outputs = ForwardOutputs(batch, Text(words, batch['mask'], sentence), real_embedding=embedding,
                             label_logits=classify(params['encoder'], embedding, sentence))
    return outputs, stats

  def whole(self, encoder: Tree, frozen: dict[str, Tree]) -> Tree:
    """All parameters of the network, of those that are trained and those that are not."""
    frozen = frozen['clip']['params'] if self.heads_only else dict.fromkeys(TRANSFORMERS, {})
    return {name: {**frozen[name], **encoder[name]} for name in TRANSFORMERS}
