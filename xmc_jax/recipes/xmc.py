"""XMC-GAN (arXiv 2101.04702): two rounds of fresh rows a step, the critic alone, then both.

Critic: hinge + sentence(real) + word(real). Generator: -fake + sentence(fake) + word(fake)
+ image(critic's features) + image(frozen network's features). In the second round both are updated
from one forward pass, by one pull of its vector-Jacobian product each.
"""
from __future__ import annotations

import ml_collections

from xmc_jax.backbones.xmc import UP_MULTIPLES, XmcBackbone
from xmc_jax.config import contrast_rows
from xmc_jax.encoders import image_code
from xmc_jax.engine.objective import Objective
from xmc_jax.layers.augment import augmentation
from xmc_jax.losses.matching import SCORES
from xmc_jax.objectives import terms as t
from xmc_jax.objectives.parts import Parts, check_parts
from xmc_jax.objectives.play import play
from xmc_jax.objectives.splits import one_view
from xmc_jax.recipes import Recipe, _bert, _shared


def build(config: ml_collections.ConfigDict, *, split=one_view,
          extra: dict[str, tuple[t.Term, ...]] | None = None) -> Recipe:
  """The recipe of `config`; `split` and `extra` terms by player are for frameworks on top."""
  _shared.check_size(config, UP_MULTIPLES)
  how, dtype = _shared.options(config).values()
  text = _bert.reader(config, dtype)
  seen = config.terms.image_frozen or extra      # terms of a framework look at codes of fakes too
  image = image_code.build(config.image.encoder, dtype) if seen else None

  backbone = XmcBackbone(
      config.model.size, config.model.width, text.encode, text.features,
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
  batch_spec = _shared.batch_spec(config, labels=bool(extra), partners=split is not one_view,
                                  rounds=2)
  frozen, frozen_spec = {'text': text.load}, {'text': text.spec}
  if image:
    frozen_spec['image'], frozen['image'] = image.spec(), image.load
  return Recipe(
      objective=Objective(((critic,), (joint,)), backbone.init, averaged=('g',)),
      sample=backbone.sample, z_features=config.model.z_features,
      frozen=frozen, frozen_spec=frozen_spec, batch_spec=batch_spec,
      tokenizer=text.tokenizer)
