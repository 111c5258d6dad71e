"""GALIP on CUB-200-2011 at 224 px, as its released code trains it.

  xmc describe --config configs/galip_cub.py
  xmc train --config configs/galip_cub.py --workdir runs/galip_cub

Published: FID 10.08. Everything is the released code's but what xmc_jax/recipes/galip.py names; for
its double normalisation of what CLIP sees add --config.model.clip_input=released. It reads with
CLIP's ViT-B/32 (`xmc weights get clip-vit-base-patch32`), on the data set `cub`, prepared. Not yet
run here.
"""
from xmc_jax.recipes import galip

CUB_TRAIN = 8_855       # pictures
EPOCHS = 1_502


def get_config():
  config = galip.config()
  config.steps = EPOCHS * (CUB_TRAIN // config.batch_size)
  config.data.name = 'cub'
  config.evals.protocol = 'legacy-torchvision'
  return config
