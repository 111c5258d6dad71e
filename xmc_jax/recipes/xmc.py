"""XMC-GAN (arXiv 2101.04702): two rounds of fresh rows a step, the critic alone, then both.

Critic: hinge + sentence(real) + word(real). Generator: -fake + sentence(fake) + word(fake)
+ image(critic's features) + image(frozen network's features). In the second round both are updated
from one forward pass, by one pull of its vector-Jacobian product each.
"""
from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections

from xmc_jax.backbones.xmc import UP_MULTIPLES, XmcBackbone
from xmc_jax.branch import Text
from xmc_jax.config import contrast_rows
from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import bert, image_code, weights
from xmc_jax.engine.objective import Objective
from xmc_jax.layers import forms
from xmc_jax.layers.augment import augmentation
from xmc_jax.losses.matching import SCORES
from xmc_jax.objectives import terms as t
from xmc_jax.objectives.parts import Parts, check_parts
from xmc_jax.objectives.play import play
from xmc_jax.objectives.splits import one_view
from xmc_jax.recipes import Recipe
from xmc_jax.types import Tree, UserError


def build(config: ml_collections.ConfigDict, *, split=one_view,
          extra: dict[str, tuple[t.Term, ...]] | None = None) -> Recipe:
  """The recipe of `config`; `split` and `extra` terms by player are for frameworks on top."""
  if config.model.size not in UP_MULTIPLES:
    raise UserError(f'model.size = {config.model.size} px; XMC-GAN is built for '
                    f'{", ".join(map(str, UP_MULTIPLES))} px')
  dtype = jnp.dtype(config.model.dtype)
  how = forms.choose(config.model.forms, jax.default_backend())
  text = bert.Bert(**dataclasses.asdict(bert.sizes(config.text.encoder)), dtype=dtype)
  image = image_code.build(config.image.encoder, dtype) if config.terms.image_frozen else None

  def encode(frozen, batch):
    words = text.apply(frozen['text'], batch['tokens'], batch['mask'])
    return Text(words, batch['mask'], bert.sentence(words, batch['mask'], config.text.pool))

  backbone = XmcBackbone(
      config.model.size, config.model.width, encode, text.width,
      describe=(lambda frozen, x: image.code(frozen['image'], x)) if image else None,
      augment=augmentation(config.model.augment), z_features=config.model.z_features,
      norm_rows=config.model.norm_rows, forms=how, recompute=config.model.recompute, dtype=dtype)
  parts = Parts(config.accumulate, config.model.norm_rows)
  check_parts(parts, config.batch_size)

  w, extra = config.terms, extra or {}
  among, scores = contrast_rows(config.negatives), SCORES[how.words]
  terms = {
      'd': (t.Term('hinge', w.adversarial, t.hinge_critic),
            t.Term('sentence', w.sentence, t.sentence_real(among)),
            t.Term('word', w.word, t.word_real(among, scores=scores)), *extra.get('d', ())),
      'g': (t.Term('hinge', w.adversarial, t.hinge_generator),
            t.Term('sentence', w.sentence, t.sentence_fake(among)),
            t.Term('word', w.word, t.word_fake(among, scores=scores)),
            t.Term('image', w.image, t.image_critic(among)),
            t.Term('image_frozen', w.image_frozen, t.image_frozen(among)), *extra.get('g', ())),
  }
  critic = play('critic', ('d',), backbone, terms, split=split, parts=parts)
  joint = play('joint', ('d', 'g'), backbone, terms, split=split, parts=parts, meters=t.accuracies)
  rows, size, length = config.batch_size, config.model.size, config.text.length
  spec = lambda dtype, *shape: jax.ShapeDtypeStruct((2, rows, *shape), dtype)
  batch_spec = {'image': spec(jnp.float32, size, size, 3), 'tokens': spec(jnp.int32, length),
                'mask': spec(jnp.bool_, length)}
  one_row = lambda key: jax.ShapeDtypeStruct((1, *batch_spec[key].shape[2:]), batch_spec[key].dtype)
  frozen_spec = {'text': jax.eval_shape(text.init, jax.random.key(0), one_row('tokens'),
                                        one_row('mask'))}
  frozen = {'text': lambda: read_text(config.text.encoder)}
  if image:
    frozen_spec['image'], frozen['image'] = image.spec(), image.load
  return Recipe(
      objective=Objective(((critic,), (joint,)), backbone.init, averaged=('g',)),
      sample=backbone.sample, z_features=config.model.z_features,
      frozen=frozen, frozen_spec=frozen_spec, batch_spec=batch_spec,
      tokenizer=lambda: Tokenizer(bert.find(config.text.encoder), config.text.length))


def read_text(name_or_path: str) -> Tree:
  """The weights of a text encoder; UserError if they are missing, or not those of their name."""
  folder = bert.find(name_or_path)
  weights.check_named(name_or_path, folder)
  return bert.load(folder)[1]
