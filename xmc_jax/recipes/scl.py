"""Supervised contrast over two branches (arXiv 2412.03957), on top of any other family.

Every row of the batch has a partner of like label (`data.partners`). The networks of the family see
both, one after the other and with the same weights; the family's losses are those of both branches,
as a sum; and the generator learns from one more term, which draws together the codes of fakes whose
captions have the same label, and pushes apart the others. Before, the image-text network that reads
captions is trained in the same way (`recipes/damsm.py`, `recipes/clip.py`).

The equations of the paper are in no text we could read. Weight and temperature of the term are
those of its public ancestor, which contrasts two captions of the same picture (Ye et al. 2021,
"Improving Text-to-Image Synthesis Using Contrastive Learning", arXiv 2107.02423); all else is our
reconstruction, told in docs/scl.md. The controls that it is compared with are values of the config:

  config.scl.alike_fakes = 0         two branches without the term
  config.data.partners = 'self'      two captions of the same picture, NT-Xent: the ancestor
  config.scl.alike_pairs = ...       with captions: UniCL's form; `alike_fakes = 0` for it alone
"""
from __future__ import annotations

import importlib

import ml_collections

from xmc_jax.objectives import terms as t
from xmc_jax.objectives.splits import two_views
from xmc_jax.recipes import Recipe
from xmc_jax.types import UserError


def config(base: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config of another family, of two branches and the term; locked."""
  c = ml_collections.ConfigDict(base)      # a copy
  with c.unlocked():
    c.base, c.recipe = c.recipe, 'scl'
    c.data.partners = 'exact'
    c.scl = dict(
        alike_fakes=0.2,           # weight: codes of fakes among themselves
        temperature=0.5,
        alike_pairs=0.0,           # weight: codes of fakes with captions
        pairs_temperature=0.1)
    if 'damsm_mask' in c.terms:
      c.terms.damsm_mask = True    # else pictures of like label would be pushed apart after all
  return c.lock()


def extend(base: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config of another family with the framework: of a generator, or of its encoder; locked."""
  return pretraining(base) if 'alike_captions' in base.terms else config(base)


def pretraining(base: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config of an image-text encoder, of two branches and the terms of like labels; locked."""
  c = ml_collections.ConfigDict(base)      # a copy
  c.data.partners = 'exact'
  c.terms.update(class_mask=True, alike_captions=1.0, alike_pictures=1.0, alike_pairs=1.0)
  return c.lock()


def build(config: ml_collections.ConfigDict) -> Recipe:
  """The recipe of `config.base`, with two branches and the term."""
  rule, s = config.data.partners, config.get('scl')
  if s is None or 'base' not in config:
    raise UserError("recipe = 'scl' needs the family that it extends: make the config with "
                    'xmc_jax.recipes.scl.config(), as configs/scl.py does')
  if config.base == config.recipe:
    raise UserError("--config.base=scl: it must be another recipe, for instance 'attngan'")
  if not rule:
    raise UserError("--config.data.partners='': two branches need partners of like label; choose "
                    "their rule, for instance exact, or self for another caption of the picture")
  extra = {'g': (t.Term('alike_fakes', s.alike_fakes, t.alike_pictures_fake(rule, s.temperature)),
                 t.Term('alike_pairs', s.alike_pairs,
                        t.alike_pairs_fake(rule, s.pairs_temperature)))}
  base = importlib.import_module(f'xmc_jax.recipes.{config.base}')
  return base.build(config, split=two_views, extra=extra)
