"""DM-GAN (arXiv 1904.01310): AttnGAN with words in a memory and spectrally normalised critics."""
from __future__ import annotations

import ml_collections

from xmc_jax.backbones import dmgan
from xmc_jax.backbones.stacked import SIZES
from xmc_jax.objectives import terms as t
from xmc_jax.objectives.splits import one_view
from xmc_jax.recipes import Recipe, _shared, _stacked


def config() -> ml_collections.ConfigDict:
  """The settings of the released code for CUB; locked."""
  c = _stacked.config('dmgan', width=64, critic_width=32)
  c.batch_size = 10
  return c


def build(config: ml_collections.ConfigDict, *, split=one_view,
          extra: dict[str, tuple[t.Term, ...]] | None = None) -> Recipe:
  """The recipe of `config`; `split` and `extra` terms by player are for frameworks on top."""
  _shared.check_size(config, SIZES)
  _shared.check_wrong_pairs(config)
  m = config.model
  generator = dmgan.generator(m.size, m.width, m.residuals, **_stacked.generator_options(config))
  critic = dmgan.critic(m.size, m.critic_width, **_shared.options(config))
  return _stacked.build(config, generator, critic, split=split, extra=extra,
                        spectral=dmgan.spectral)
