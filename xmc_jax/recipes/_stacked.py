"""What the recipes of stacked networks share: settings, and one round of critic, then generator.

The critics learn from real pairs, fakes and wrong pairs by cross entropy. The generator then learns
from the critics that this step has updated, with the same fakes: cross entropy, the DAMSM's losses
of its last picture, and the divergence of the drawn conditions.
"""
from __future__ import annotations

import ml_collections
from ml_collections import config_dict

from xmc_jax import config as defaults
from xmc_jax.backbones.attngan import MASKS
from xmc_jax.backbones.stacked import Critic, Generator, StackedBackbone
from xmc_jax.config import contrast_rows
from xmc_jax.engine.objective import Objective
from xmc_jax.objectives import terms as t
from xmc_jax.objectives.play import drawing, play
from xmc_jax.objectives.splits import one_view
from xmc_jax.recipes import Recipe, _damsm, _shared
from xmc_jax.types import UserError


def config(recipe: str, **model) -> ml_collections.ConfigDict:
  """The settings that AttnGAN's and DM-GAN's released code share, for CUB at 256 px; locked.

  model: what differs of `config.model`: width, critic_width.
  """
  c = defaults.base()
  with c.unlocked():
    c.recipe = recipe
    c.ema_decay = 0.999
    c.model = dict(
        size=256,                    # side of the last picture, px: 32, 64, 128 or 256
        **model,
        residuals=2,                 # residual blocks of each later stage
        z_features=100,              # of the noise
        condition_features=100,      # of the condition that is drawn for each sentence
        mask='own',                  # of padding: each row's own, or 'tiled', the released code's
        norm_rows=config_dict.placeholder(int),
                                     # rows that share BatchNorm statistics; None: all
        dtype='float32',             # of the networks' arithmetic
        forms='auto',                # of the operations: 'auto', 'fast', 'plain' (layers/forms.py)
        recompute='nothing',         # in the generator's backward pass: 'nothing' or 'blocks'
        **_shared.label_config())
    c.text = _damsm.text_config(words=5450)
    c.image.encoder = 'inception-torchvision'      # of the DAMSM, as long as its folder is missing
    c.terms = dict(                  # weights; a term of weight 0 is not built
        adversarial=1.0,
        kl=1.0,                      # of the drawn conditions from the standard normal
        **_damsm.term_config(5.0))
    c.optim = {player: dict(lr=2e-4, b1=0.5, b2=0.999) for player in 'gd'}
  return c


def generator_options(config: ml_collections.ConfigDict) -> dict[str, object]:
  """Keyword arguments of a family's `generator`."""
  m = config.model
  if m.mask not in MASKS:
    raise UserError(f'--config.model.mask={m.mask}: choose one of {", ".join(MASKS)}')
  return dict(mask=m.mask, noise_features=m.z_features, condition_features=m.condition_features,
              norm_rows=m.norm_rows, recompute=m.recompute, **_shared.options(config))


def build(config: ml_collections.ConfigDict, generator: Generator, critic: Critic, *,
          split=one_view, extra: dict[str, tuple[t.Term, ...]] | None = None,
          **options) -> Recipe:
  """The recipe of these networks; `split`, `extra` as of a recipe's, `options` of the backbone."""
  w, extra = config.terms, extra or {}
  reader = _damsm.reader(config, look=bool(w.damsm or extra))
  backbone = StackedBackbone(generator, critic, reader.encode, reader.features, reader.look,
                             **options)
  terms = {
      'd': (t.Term('bce', w.adversarial, t.bce_critic), *extra.get('d', ())),
      'g': (t.Term('bce', w.adversarial, t.bce_generator), t.Term('kl', w.kl, t.kl),
            *_damsm.terms(config, contrast_rows(config.negatives)), *extra.get('g', ())),
  }
  fakes = drawing(backbone, split)
  phases = (play('critic', ('d',), backbone, terms, draw=fakes, meters=t.pair_accuracies),
            play('generator', ('g',), backbone, terms, draw=fakes))
  return Recipe(
      objective=Objective((phases,), backbone.init, averaged=('g',)),
      sample=backbone.sample, z_features=backbone.z_features,
      frozen=reader.frozen, frozen_spec=reader.spec,
      batch_spec=_shared.batch_spec(config, labels=bool(extra) or w.damsm_mask and bool(w.damsm),
                                    partners=split is not one_view),
      tokenizer=reader.tokenizer)
