"""GALIP (arXiv 2301.12959): critic and generator around a frozen CLIP, which also judges fakes.

One round of two phases with the same fakes: the critic by hinge losses with wrong captions and by
the penalty on its slope at CLIP's maps of real pictures, in one step; then the generator, by the
critic and by the cosine of CLIP's codes of fakes and captions. There is no average of the
generator in the released code: ema_decay = 0.

What differs from that code: CLIP sees pictures normalised once (`model.clip_input`), pictures come
from the data set at the size that CLIP sees instead of losing pixels on the way from 256 px, and
low precision is bfloat16 in place of float16 with a scaled loss.
"""
from __future__ import annotations

import ml_collections

from xmc_jax import config as defaults
from xmc_jax.backbones.galip import (
  LEAST_GRID,
  LEAST_LAYERS,
  SIZES,
  Critic,
  GalipBackbone,
  Generator,
)
from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import clip
from xmc_jax.engine.objective import Objective
from xmc_jax.objectives import terms as t
from xmc_jax.objectives.play import drawing, play
from xmc_jax.objectives.splits import one_view
from xmc_jax.recipes import Recipe, _clip, _shared
from xmc_jax.types import UserError


def config() -> ml_collections.ConfigDict:
  """The settings of the released code at 224 px; locked."""
  c = defaults.base()
  with c.unlocked():
    c.recipe = 'galip'
    c.batch_size = 512
    c.ema_decay = 0.0
    c.model = dict(
        size=224,                    # side of the pictures, px: 32, 64, 128, 224 or 256
        width=64,                    # channels per multiple
        z_features=100,              # of the noise
        clip_input='single',         # CLIP sees pictures normalised once, or 'released': twice
        dtype='bfloat16',            # of the networks' arithmetic, CLIP's too
        forms='auto',                # of the operations: 'auto', 'fast', 'plain' (layers/forms.py)
        recompute='nothing',         # in the generator's backward pass: 'nothing' or 'blocks'
        **_shared.label_config())
    c.clip = _clip.sizes()
    c.text = _clip.text_config()
    c.terms = dict(                  # weights; a term of weight 0 is not built
        adversarial=1.0,
        penalty=1.0,                 # of the critic's slope
        similarity=4.0)              # of fakes and captions, by CLIP
    c.optim = dict(g=dict(lr=1e-4, b1=0.0, b2=0.9), d=dict(lr=4e-4, b1=0.0, b2=0.9))
    del c['image']                   # no other network looks at pictures
  return c


def build(config: ml_collections.ConfigDict, *, split=one_view,
          extra: dict[str, tuple[t.Term, ...]] | None = None) -> Recipe:
  """The recipe of `config`; `split` and `extra` terms by player are for frameworks on top."""
  _shared.check_size(config, SIZES)
  _shared.check_wrong_pairs(config)
  m, w, extra = config.model, config.terms, extra or {}
  network, options = _clip.network(config), _shared.options(config)
  _check_network(network.config, m.size)
  backbone = GalipBackbone(
      Generator(m.size, m.width, network.config, recompute=m.recompute, **options),
      Critic(m.width, options['dtype']), network, m.clip_input, m.z_features)
  terms = {
      'd': (t.Term('hinge', w.adversarial, t.hinge_matching()), t.Term('slope', w.penalty, t.slope),
            *extra.get('d', ())),
      'g': (t.Term('hinge', w.adversarial, t.hinge_generator),
            t.Term('similarity', w.similarity, t.similarity), *extra.get('g', ()))}
  fakes = drawing(backbone, split)
  phases = (play('critic', ('d',), backbone, terms, draw=fakes, meters=t.pair_accuracies),
            play('generator', ('g',), backbone, terms, draw=fakes))
  encoder = config.text.encoder
  return Recipe(
      objective=Objective((phases,), backbone.init, averaged=('g',)),
      sample=backbone.sample, z_features=m.z_features,
      frozen={'clip': lambda: _clip.read(encoder)}, frozen_spec={'clip': clip.spec(network)},
      batch_spec=_shared.batch_spec(config, labels=bool(extra), partners=split is not one_view),
      tokenizer=lambda: Tokenizer(clip.find(encoder), config.text.length), sample_needs=('clip',))


def _check_network(sizes: clip.ClipConfig, pixels: int) -> None:
  """Raises UserError for a CLIP that the networks cannot be built around."""
  if sizes.image.layers < LEAST_LAYERS or not LEAST_GRID <= sizes.grid < pixels:
    raise UserError(f'GALIP needs a CLIP of at least {LEAST_LAYERS} layers, and of {LEAST_GRID} '
                    'patches a side or more but fewer than pixels of model.size; this one has '
                    f'{sizes.image.layers} layers and {sizes.grid} patches a side: choose another '
                    'with --config.text.encoder')
