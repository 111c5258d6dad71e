"""Supervised contrast while an image-text encoder is trained: what its recipes share.

With `data.partners` every row has a partner of like label, and the losses are those of two
branches; the terms `alike_…` then draw together what has the same label, captions, pictures and
pairs, as the supervised contrastive framework (arXiv 2412.03957) does before it trains its
generators. We could read no text with its equations: terms, weights and temperatures are our
reconstruction. `labels` tells labels by a linear classifier instead, and `alike_pairs` alone is
UniCL's loss (arXiv 2204.03610): the two that the framework is compared with.
"""
from __future__ import annotations

import ml_collections

from xmc_jax.objectives import terms as t
from xmc_jax.recipes import _shared
from xmc_jax.types import UserError

WITHIN = ('alike_captions', 'alike_pictures')      # terms that compare rows of one kind


def term_config() -> dict[str, object]:
  """The keys of `config.terms` that this module reads."""
  return dict(
      class_mask=True,           # pictures of like label are no negatives
      # Supervised contrast: weights, 0 for none. 1 each is our default with partners.
      alike_captions=0.0, alike_pictures=0.0, alike_pairs=0.0,
      temperature=0.5,           # of captions and of pictures among themselves
      pairs_temperature=0.1,     # of pictures with captions
      labels=0.0)                # told by a linear classifier of both codes


def rule(config: ml_collections.ConfigDict) -> str:
  """By which labels are alike."""
  return config.data.partners or 'exact'


def mask(config: ml_collections.ConfigDict) -> str:
  """The rule by which rows do not contrast; '' for none."""
  return _shared.mask_rule(config) if config.terms.class_mask else ''


def terms(config: ml_collections.ConfigDict) -> tuple[t.Term, ...]:
  w, by = config.terms, rule(config)
  return (
      t.Term('alike_captions', w.alike_captions, t.alike_captions(by, w.temperature)),
      t.Term('alike_pictures', w.alike_pictures, t.alike_pictures_real(by, w.temperature)),
      t.Term('alike_pairs', w.alike_pairs, t.alike_pairs_real(by, w.pairs_temperature)),
      t.Term('labels', w.labels, t.labels))


def labelled(config: ml_collections.ConfigDict) -> bool:
  """Whether a term looks at labels."""
  w = config.terms
  return bool(w.class_mask or w.labels
              or any(weight for name, weight in w.items() if name.startswith('alike_')))


def check(config: ml_collections.ConfigDict) -> None:
  """Raises UserError for terms that the batch has nothing for."""
  w = config.terms
  if not config.data.partners and (missing := [name for name in WITHIN if w[name]]):
    raise UserError(f'--config.terms.{missing[0]}={w[missing[0]]}: rows of like label are compared '
                    'where every row has a partner; choose a rule with --config.data.partners')
  if not config.model.classes and (w.labels or not config.model.one_class and labelled(config)):
    raise UserError('--config.model.classes: the terms look at labels, so give the number of '
                    'classes that the data set has')
