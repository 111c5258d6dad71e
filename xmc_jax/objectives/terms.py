"""Loss terms: a name, a weight and a function of the branches."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp

from xmc_jax.branch import Branch
from xmc_jax.losses.adversarial import bce_d, bce_g, hinge_d, hinge_g
from xmc_jax.losses.contrastive import nt_xent, retrieval_accuracy
from xmc_jax.losses.groups import within
from xmc_jax.losses.latent import kl_to_normal
from xmc_jax.losses.matching import word_loss
from xmc_jax.types import Array

Branches = tuple[Branch, ...]


@dataclasses.dataclass(frozen=True)
class Term:
  """`weight * value(branches)` is added to a player's loss; `name` is its metric's name."""
  name: str
  weight: float
  value: Callable[[Branches], Array]


def each(value: Callable[[Branch], Array]) -> Callable[[Branches], Array]:
  """Lifts a one-branch loss to all branches, as a sum."""
  return lambda branches: functools.reduce(jnp.add, [value(b) for b in branches])


def _over_scales(loss, *logits: tuple[Array, ...]) -> Array:
  return functools.reduce(jnp.add, [loss(*rows) for rows in zip(*logits)])


def _contrast(loss: Callable[..., Array], arrays: Callable[[Branch], tuple[Array, ...]]):
  """A term for every number of rows that contrast with one another; None is all of the batch.

  What else it is given are options of `loss`.
  """
  def term(rows: int | None, **options) -> Callable[[Branches], Array]:
    return each(lambda b: within(rows, functools.partial(loss, **options))(*arrays(b)))
  return term


# One-branch losses, as XMC-GAN writes them: the critic learns from real pairs, the generator from
# fakes. `image` contrasts a fake with the real picture of its caption.
hinge_critic = each(lambda b: _over_scales(hinge_d, b.real_view.logits, b.fake_view.logits))
hinge_generator = each(lambda b: _over_scales(hinge_g, b.fake_view.logits))

# As AttnGAN writes them. The last of the wrong pairs is left out: it closes the circle of rows.
bce_critic = each(lambda b: _over_scales(
    lambda real, real_alone, fake, fake_alone, wrong: bce_d(
        (real_alone, real), (fake_alone, fake), wrong[:-1]),
    b.real_view.logits, b.real_view.unconditional, b.fake_view.logits, b.fake_view.unconditional,
    b.wrong_view.logits))
bce_generator = each(lambda b: _over_scales(
    lambda *logits: bce_g(logits), b.fake_view.unconditional, b.fake_view.logits))
kl = each(lambda b: kl_to_normal(*b.latent))      # of the drawn conditions

# These are given the rows that contrast: sentence_real(None) is a term of the whole batch.
sentence_real = _contrast(nt_xent, lambda b: (b.real_view.features, b.real_view.sentence))
sentence_fake = _contrast(nt_xent, lambda b: (b.fake_view.features, b.fake_view.sentence))
word_real = _contrast(word_loss, lambda b: (b.real_view.regions, b.text.words, b.text.mask))
word_fake = _contrast(word_loss, lambda b: (b.fake_view.regions, b.text.words, b.text.mask))
image_critic = _contrast(nt_xent, lambda b: (b.fake_view.features, b.real_view.features))
image_frozen = _contrast(nt_xent, lambda b: (b.fake_code, b.real_code))


def accuracies(branches: Branches) -> dict[str, Array]:
  """Shares in [0, 1] that tell how the game stands; they train nothing.

  real, fake: pictures that the critic judges rightly. sentence_real, sentence_fake: pictures whose
  nearest caption of the batch, by the critic's codes, is their own: of the global batch, whatever
  rows the losses contrast, so that runs can be compared.
  """
  b = branches[0]
  share = lambda x: jnp.mean(x.astype(jnp.float32))
  return {
      'real': share(b.real_view.logits[-1] > 0),
      'fake': share(b.fake_view.logits[-1] < 0),
      'sentence_real': retrieval_accuracy(b.real_view.features, b.real_view.sentence),
      'sentence_fake': retrieval_accuracy(b.fake_view.features, b.fake_view.sentence),
  }


def pair_accuracies(branches: Branches) -> dict[str, Array]:
  """Shares in [0, 1] of pairs that the critic of the last scale judges rightly; they train nothing.

  real: real pictures with their captions; fake: fakes with theirs; wrong: real pictures with the
  captions of others.
  """
  b = branches[0]
  share = lambda x: jnp.mean(x.astype(jnp.float32))
  return {
      'real': share(b.real_view.logits[-1] > 0),
      'fake': share(b.fake_view.logits[-1] < 0),
      'wrong': share(b.wrong_view.logits[-1] < 0),
  }
