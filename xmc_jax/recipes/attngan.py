"""AttnGAN (arXiv 1711.10485): three scales, words read by attention, judged by a frozen DAMSM."""
from __future__ import annotations

import ml_collections

from xmc_jax.backbones import attngan
from xmc_jax.backbones.stacked import SIZES
from xmc_jax.objectives import terms as t
from xmc_jax.objectives.splits import one_view
from xmc_jax.recipes import Recipe, _shared, _stacked


def config() -> ml_collections.ConfigDict:
  """The settings of the released code for CUB; locked."""
  c = _stacked.config('attngan', width=32, critic_width=64)
  c.batch_size = 20
  return c


def build(config: ml_collections.ConfigDict, *, split=one_view,
          extra: dict[str, tuple[t.Term, ...]] | None = None) -> Recipe:
  """The recipe of `config`; `split` and `extra` terms by player are for frameworks on top."""
  _shared.check_size(config, SIZES)
  _shared.check_wrong_pairs(config)
  m = config.model
  generator = attngan.generator(m.size, m.width, m.residuals, **_stacked.generator_options(config))
  critic = attngan.critic(m.size, m.critic_width, norm_rows=m.norm_rows, **_shared.options(config))
  return _stacked.build(config, generator, critic, split=split, extra=extra)
