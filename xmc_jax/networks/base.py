"""What backbones hand to loss terms: the words that both sides share, dataclasses only.

These objects live inside one trace of the training step and are never stored. They are pytrees, and
every array in them has the rows as its first axis, so that rows can be divided and put together.
"""
from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax

from xmc_jax.types import Array, Batch, Tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Text:
  """Captions as the frozen text encoder sees them, float32."""
  words: Array      # [b, t, e]
  mask: Array       # [b, t] bool, True where `words` is text
  sentence: Array   # [b, e]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DiscriminatorOutput:
  """What the discriminator says of one set of images; a family fills what its losses look at."""
  logits: tuple[Array, ...]         # one [b] per scale, image with caption, higher means real
  features: Array | None = None     # [b, d] image code of the sentence and image terms
  regions: Array | None = None  # [b, n, e] region codes of the word term
  sentence: Array | None = None  # [b, d] the discriminator's code of the caption, beside `features`
  unconditional: tuple[Array, ...] = ()     # one [b] per scale, of the image alone


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ForwardOutputs:
  """One view of the batch and everything a loss term may look at.

  What a family does not have is None or empty; what no term looks at is not computed.
  """
  batch: Batch
  text: Text
  fake: tuple[Array, ...] = ()      # generated images by scale, [b, h, w, 3] in [0, 1]
  d_real: DiscriminatorOutput | None = None
  d_fake: DiscriminatorOutput | None = None
  real_embedding: Array | None = None    # [b, d] of the real images, by the image network
  fake_embedding: Array | None = None    # [b, d] of the fakes
  real_regions: Array | None = None     # [b, n, e] of the real images, by the image network
  fake_regions: Array | None = None  # [b, n, e] of the fakes
  d_wrong: DiscriminatorOutput | None = (
    None  # real image i with caption i + 1, the last with the first
  )
  latent: tuple[Array, Array] | None = None  # mean and log variance [b, d] of a drawn condition
  grad_norm_sq: Array | None = None  # [b] squared length of the real logit's gradient in its inputs
  label_logits: tuple[Array, ...] = ()      # each [b, l], what a classifier says of the labels


class Networks(Protocol):
  """The networks of one method and how they are run: no loss, no weight, no optimiser."""

  def init(self, rng: Array, batch: Batch) -> dict[str, Any]:
    """`{network: variables}` for a batch of one round; values of `batch` are not looked at."""

  def sample(self, params: Tree, stats: Tree, frozen: dict[str, Tree], batch: Batch,
             z: Array) -> Array:
    """Images [b, h, w, 3] in [0, 1] of the captions in `batch`, in evaluation mode."""


class Forward(Networks, Protocol):
  """Networks that every phase runs as a whole."""

  def forward(self, params: dict[str, Tree], stats: dict[str, Tree], frozen: dict[str, Tree],
              batch: Batch, rngs: Array) -> tuple[ForwardOutputs, dict[str, Tree]]:
    """Runs the networks in training mode on one view.

    `rngs` [b] holds a random key for every example: what is drawn for an example belongs to it,
    however the batch is divided among devices and microbatches. Returns the outputs and every
    network's new stats.
    """


class SplitForward(Networks, Protocol):
  """Networks whose fakes the phases of a round share: `forward` in two halves."""

  def generate(self, params: dict[str, Tree], stats: dict[str, Tree], frozen: dict[str, Tree],
               batch: Batch, rngs: Array) -> tuple[Any, dict[str, Tree]]:
    """All that depends on the generator and frozen networks, and every network's new stats."""

  def discriminate(self, params: dict[str, Tree], stats: dict[str, Tree], frozen: dict[str, Tree],
                   generated: Any) -> tuple[ForwardOutputs, dict[str, Tree]]:
    """The outputs for what was generated, with the discriminator's; every network's new stats."""
