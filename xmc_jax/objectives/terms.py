"""Loss terms: a name, a weight and a function of the branches."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp

from xmc_jax.branch import Branch
from xmc_jax.losses import damsm
from xmc_jax.losses.adversarial import bce_d, bce_g, hinge_d, hinge_g, hinge_matching_d
from xmc_jax.losses.contrastive import (
  mean_cosine,
  multi_positive,
  multi_positive_nce,
  nt_xent,
  retrieval_accuracy,
  sup_con,
)
from xmc_jax.losses.groups import within
from xmc_jax.losses.labels import label_cross_entropy
from xmc_jax.losses.latent import kl_to_normal
from xmc_jax.losses.matching import word_loss
from xmc_jax.losses.penalties import sixth_power
from xmc_jax.losses.positives import positive_pairs
from xmc_jax.types import Array, UserError

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


def hinge_matching(wrong: slice = slice(None)) -> Callable[[Branches], Array]:
  """The critic's hinge with wrong captions; `wrong` chooses among the wrong pairs."""
  return each(lambda b: _over_scales(lambda r, f, w: hinge_matching_d(r, f, w[wrong]),
                                     b.real_view.logits, b.fake_view.logits, b.wrong_view.logits))


slope = each(lambda b: sixth_power(b.slope))      # of the critic at real pairs
similarity = each(lambda b: -mean_cosine(b.fake_code, b.text.sentence))      # of fakes and captions

# These are given the rows that contrast: sentence_real(None) is a term of the whole batch.
sentence_real = _contrast(nt_xent, lambda b: (b.real_view.features, b.real_view.sentence))
sentence_fake = _contrast(nt_xent, lambda b: (b.fake_view.features, b.fake_view.sentence))
word_real = _contrast(word_loss, lambda b: (b.real_view.regions, b.text.words, b.text.mask))
word_fake = _contrast(word_loss, lambda b: (b.fake_view.regions, b.text.words, b.text.mask))
image_critic = _contrast(nt_xent, lambda b: (b.fake_view.features, b.real_view.features))
image_frozen = _contrast(nt_xent, lambda b: (b.fake_code, b.real_code))


def _apart(loss: Callable[..., Array], arrays: Callable[[Branch], tuple[Array, ...]]):
  """A term within `rows` rows, None for all, where rows of like label by `rule` do not contrast.

  Without a rule all do.
  """
  def term(rows: int | None, rule: str = '', **options) -> Callable[[Branches], Array]:
    given = functools.partial(loss, rule=rule, **options) if rule else functools.partial(
        loss, **options)
    labels = (lambda b: (b.batch['label'],)) if rule else (lambda b: ())
    return each(lambda b: within(rows, given)(*arrays(b), *labels(b)))
  return term


# Of pictures and captions by an image-text network trained before the generator, or in training.
damsm_words_real = _apart(damsm.words, lambda b: (b.real_regions, b.text.words, b.text.mask))
damsm_words_fake = _apart(damsm.words, lambda b: (b.fake_regions, b.text.words, b.text.mask))
damsm_sentence_real = _apart(damsm.sentences, lambda b: (b.real_code, b.text.sentence))
damsm_sentence_fake = _apart(damsm.sentences, lambda b: (b.fake_code, b.text.sentence))


def positives(branches: Branches, rule: str) -> Array:
  """[m, m] float32 of the rows of all branches, one branch after the other: what belongs together.

  By their labels, and rows of the same number in any case: a picture without a label, or the only
  one with its label, is its own partner.
  """
  labels = jnp.concatenate([b.batch['label'] for b in branches])
  rows = len(branches[0].batch['label'])
  partners = jnp.tile(jnp.eye(rows), (len(branches), len(branches)))
  return jnp.maximum(positive_pairs(labels, rule).astype(jnp.float32), partners)


def _across(loss: Callable[..., Array], *codes: Callable[[Branch], Array]):
  """A term of the rows of all branches together, for a rule of labels and a temperature."""
  def term(rule: str, temperature: float) -> Callable[[Branches], Array]:
    def value(branches):
      arrays = [jnp.concatenate([of(b) for b in branches]) for of in codes]
      widths = [str(array.shape[-1]) for array in arrays]
      if len(set(widths)) > 1:
        raise UserError(f'alike_pairs: codes of pictures and captions have {" and ".join(widths)} '
                        'numbers in this family, so they cannot be compared; set '
                        '--config.scl.alike_pairs=0')
      return loss(*arrays, positives(branches, rule), temperature)
    return value
  return term


# Supervised contrast: rows of like label attract each other, within a modality and across.
alike_captions = _across(sup_con, lambda b: b.text.sentence)
alike_pictures_real = _across(sup_con, lambda b: b.real_code)
alike_pictures_fake = _across(sup_con, lambda b: b.fake_code)
alike_pairs_real = _across(multi_positive_nce, lambda b: b.real_code, lambda b: b.text.sentence)
alike_pairs_fake = _across(multi_positive_nce, lambda b: b.fake_code, lambda b: b.text.sentence)


def alike_words_real(rule: str, *, gamma3: float = damsm.GAMMA3,
                     **gammas: float) -> Callable[[Branches], Array]:
  """The same by words and places, of each branch for itself: all rows would cost twice as much."""
  return each(lambda b: multi_positive(
      gamma3 * damsm.word_scores(b.real_regions, b.text.words, b.text.mask, **gammas),
      positives((b,), rule)))


# What a classifier of the codes says of the labels, in place of any contrast of them.
labels = each(lambda b: functools.reduce(
    jnp.add, [label_cross_entropy(logits, b.batch['label']) for logits in b.label_logits]))


def retrieval(branches: Branches) -> dict[str, Array]:
  """Shares in [0, 1] of rows whose nearest code of the other side, of the batch, is their own."""
  b = branches[0]
  return {'caption_of_picture': retrieval_accuracy(b.real_code, b.text.sentence),
          'picture_of_caption': retrieval_accuracy(b.text.sentence, b.real_code)}


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
