"""SSA-GAN (arXiv 2104.00567): one scale, masked modulation by the sentence, a penalty on slopes.

One round of three phases with the same fakes: the critic by hinge losses with wrong captions; the
critic again, in a step of its own, by the penalty on its slope at real pairs; then the generator,
by the critic and a frozen DAMSM. The released code keeps no average of the generator, hence
ema_decay = 0.
"""
from __future__ import annotations

import ml_collections
from ml_collections import config_dict

from xmc_jax import config as defaults
from xmc_jax.backbones.ssagan import SIZES, Critic, Generator, SsaGanBackbone
from xmc_jax.config import contrast_rows
from xmc_jax.engine.objective import Objective
from xmc_jax.objectives import terms as t
from xmc_jax.objectives.play import drawing, play
from xmc_jax.objectives.splits import one_view
from xmc_jax.recipes import Recipe, _damsm, _shared

# The released code pairs each real picture but the last with the sentence of the next row.
WRONG = slice(None, -1)


def config() -> ml_collections.ConfigDict:
  """The settings of the released code for CUB at 256 px; locked."""
  c = defaults.base()
  with c.unlocked():
    c.recipe = 'ssagan'
    c.batch_size = 24
    c.ema_decay = 0.0
    c.model = dict(
        size=256,                    # side of the pictures, px: 32, 64, 128 or 256
        width=64,                    # channels per multiple
        z_features=100,              # of the noise
        norm_rows=config_dict.placeholder(int),
                                     # rows that share BatchNorm statistics; None: all
        dtype='float32',             # of the networks' arithmetic
        forms='auto',                # of the operations: 'auto', 'fast', 'plain' (layers/forms.py)
        **_shared.label_config())
    c.text = _damsm.text_config(words=5450)
    c.image.encoder = 'inception-torchvision'      # of the DAMSM, as long as its folder is missing
    c.terms = dict(                  # weights; a term of weight 0 is not built
        adversarial=1.0,
        penalty=1.0,                 # of the critic's slope
        **_damsm.term_config(0.05))
    c.terms.gamma1 = 5.0             # the code's default, while its DAMSM is trained with 4
    c.optim = dict(g=dict(lr=1e-4, b1=0.0, b2=0.9), d=dict(lr=4e-4, b1=0.0, b2=0.9))
  return c


def build(config: ml_collections.ConfigDict, *, split=one_view,
          extra: dict[str, tuple[t.Term, ...]] | None = None) -> Recipe:
  """The recipe of `config`; `split` and `extra` terms by player are for frameworks on top."""
  _shared.check_size(config, SIZES)
  _shared.check_wrong_pairs(config)
  m, w, extra = config.model, config.terms, extra or {}
  options = _shared.options(config)
  reader = _damsm.reader(config, look=bool(w.damsm or extra))
  backbone = SsaGanBackbone(
      Generator(m.size, m.width, m.norm_rows, **options),
      Critic(m.size, m.width, options['dtype']), reader.encode, reader.features, reader.look,
      m.z_features)
  critic = (t.Term('hinge', w.adversarial, t.hinge_matching(WRONG)), *extra.get('d', ()))
  penalty = t.Term('slope', w.penalty, t.slope)
  generator = (t.Term('hinge', w.adversarial, t.hinge_generator),
               *_damsm.terms(config, contrast_rows(config.negatives)), *extra.get('g', ()))
  fakes = drawing(backbone, split)
  make = lambda name, player, terms, **more: play(name, (player,), backbone, {player: terms},
                                                  draw=fakes, **more)
  phases = (make('critic', 'd', critic, meters=t.pair_accuracies),
            *([make('penalty', 'd', (penalty,))] if w.penalty else []),
            make('generator', 'g', generator))
  return Recipe(
      objective=Objective((phases,), backbone.init, averaged=('g',)),
      sample=backbone.sample, z_features=m.z_features,
      frozen=reader.frozen, frozen_spec=reader.spec,
      batch_spec=_shared.batch_spec(config, labels=bool(extra) or w.damsm_mask and bool(w.damsm),
                                    partners=split is not one_view),
      tokenizer=reader.tokenizer)
