"""What networks hand to losses, and how networks are run.

The dataclasses live inside one trace of the training step and are never stored. They are pytrees
whose arrays all have the examples as their first axis, so they can be split into microbatches and
put together again.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from xmc_jax.types import Array, Batch, Tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Text:
  """Encoded captions, float32."""
  words: Array      # [b, t, e]
  mask: Array       # [b, t] bool, True where `words` is text
  sentence: Array   # [b, e]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DiscriminatorOutput:
  """Output of the discriminator for one set of images; a method fills what its losses need."""
  logits: tuple[Array, ...]             # [b] or [b, places] per scale; higher: a real pair
  features: Array | None = None         # [b, d] embedding of the image
  regions: Array | None = None          # [b, n, e] embeddings of its regions
  sentence: Array | None = None         # [b, d] embedding of the caption, next to `features`
  unconditional: tuple[Array, ...] = ()     # one [b] per scale, of the image alone


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ForwardOutputs:
  """Outputs of one forward pass: everything that a loss may use.

  A method leaves what it lacks None or empty. XLA removes what no loss uses.
  """
  batch: Batch
  text: Text
  fake: tuple[Array, ...] = ()          # generated images per scale, [b, h, w, 3] in [0, 1]
  d_real: DiscriminatorOutput | None = None
  d_fake: DiscriminatorOutput | None = None
  real_embedding: Array | None = None   # [b, d] of real images, by the image network
  fake_embedding: Array | None = None   # [b, d] of fakes
  real_regions: Array | None = None     # [b, n, e] of real images, by the image network
  fake_regions: Array | None = None     # [b, n, e] of fakes
  # Wrong pairs: real image i with caption i + 1, and the last image with the first caption.
  d_wrong: DiscriminatorOutput | None = None
  latent: tuple[Array, Array] | None = None     # mean and log variance [b, d] of the condition
  grad_norm_sq: Array | None = None     # [b] squared L2 norm of d(real logit) / d(image, caption)
  label_logits: tuple[Array, ...] = ()  # [b, l] each, of label classifiers


def text_zeros(batch: Batch, features: int) -> Text:
  """Text of the shapes of `batch`, to initialize networks with."""
  b, t = batch['tokens'].shape
  return Text(jnp.zeros((b, t, features)), jnp.ones((b, t), bool), jnp.zeros((b, features)))


def normal_noise(rngs: Array, features: int) -> Array:
  """Standard normal noise [b, features] from one key per example, [b]."""
  return jax.vmap(lambda rng: jax.random.normal(rng, (features,)))(rngs)


def matching_aware(discriminate: Callable[..., tuple[Array, ...]], real: Any, fake: Any,
                   sentence: Array) -> dict[str, Any]:
  """d_real, d_wrong, d_fake and grad_norm_sq of `ForwardOutputs`.

  discriminate: (images or their features, *sentences [b, d]) -> a logit [b] for each sentence; it
    must not mix examples, so that the gradient of the sum is that of each example.
  """
  logits = (*discriminate(real, sentence, jnp.roll(sentence, -1, 0)),
            *discriminate(fake, sentence))
  gradients = jax.grad(lambda *pair: jnp.sum(discriminate(*pair)[0]), (0, 1))(real, sentence)
  views = (DiscriminatorOutput((logit,)) for logit in logits)
  return dict(zip(('d_real', 'd_wrong', 'd_fake'), views), grad_norm_sq=sum(
      jnp.sum(jnp.square(x), tuple(range(1, x.ndim))) for x in gradients))


class Networks(Protocol):
  """The networks of one method and how they are run: no losses, no weights, no optimizer."""

  def init(self, rng: Array, batch: Batch) -> dict[str, Any]:
    """`{network: variables}` for the batch of one round, of which only the shapes matter."""


class GeneratorNetworks(Networks, Protocol):
  """Networks that can generate images."""

  def sample(self, params: Tree, stats: Tree, frozen: dict[str, Tree], batch: Batch,
             z: Array) -> Array:
    """Images [b, h, w, 3] in [0, 1] for the captions of `batch`, in evaluation mode.

    params, stats: of the network "g". z: [b, z features], standard normal.
    """


class Forward(Networks, Protocol):
  """Networks that every phase runs as a whole."""

  def forward(self, params: dict[str, Tree], stats: dict[str, Tree], frozen: dict[str, Tree],
              batch: Batch, rngs: Array) -> tuple[ForwardOutputs, dict[str, Tree]]:
    """Runs the networks in training mode on one branch of the batch.

    rngs: [b], a random key per example. All random numbers of an example come from its key, so they
      do not depend on how the batch is split among devices and microbatches.

    Returns the outputs and the new statistics of every network.
    """


class SplitForward(GeneratorNetworks, Protocol):
  """Networks whose fakes several phases of a round share: `forward` in two halves."""

  def generate(self, params: dict[str, Tree], stats: dict[str, Tree], frozen: dict[str, Tree],
               batch: Batch, rngs: Array) -> tuple[Any, dict[str, Tree]]:
    """What depends on the generator and on frozen networks only, and all new statistics."""

  def discriminate(self, params: dict[str, Tree], stats: dict[str, Tree], frozen: dict[str, Tree],
                   generated: Any) -> tuple[ForwardOutputs, dict[str, Tree]]:
    """The outputs for what `generate` returned, by the discriminator, and all new statistics."""
