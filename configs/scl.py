"""Supervised contrast over two branches (SCL, arXiv 2412.03957), on top of any other config here.

The config that it extends follows the colon. First the image-text encoder, then the generator:

  xmc train --config configs/scl.py:damsm_cub --workdir runs/scl_damsm_cub
  xmc train --config configs/scl.py:attngan_cub --workdir runs/scl_attngan_cub

The same works for dm_gan_cub, df_gan_cub and ssa_gan_cub, with the same encoder; for the configs of
coco; and for those of emoji and scenes, at sizes for CPUs. Where a generator's own config names the
encoder runs/..., it uses runs/scl_... instead. galip_cub and galip_coco keep the published CLIP;
galip_emoji and galip_scenes need clip_emoji and clip_scenes first. XMC-GAN's text encoder is never
trained, so scl.py:xmc_gan_coco256 alone is enough.

Two images have the same label by the rule `exact`: the same species, or the same set of classes.
For another rule add --config.data.partners=dominant, overlap or jaccard to both commands.
docs/scl.md says what is published and what is our reconstruction.
"""
from xmc_jax.config import beside
from xmc_jax.methods import scl

RUNS = 'runs/'


def get_config(name='attngan_emoji'):
  config = scl.extend(beside(__file__, name, 'extend'))
  if config.text.get('encoder', '').startswith(RUNS):
    config.text.encoder = config.text.encoder.replace(RUNS, f'{RUNS}scl_', 1)
  return config
