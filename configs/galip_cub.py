"""GALIP on CUB-200-2011 at 224 px, as its released code trains it.

  xmc describe --config configs/galip_cub.py
  xmc train --config configs/galip_cub.py --workdir runs/galip_cub

Published: FID 10.08. Everything follows the released code, except what xmc_jax/methods/galip.py
names; for its double normalization of CLIP's input add --config.model.clip_input=released. It is
built around CLIP's ViT-B/32 (`xmc weights get clip-vit-base-patch32`). It needs the prepared data
set `cub`. Not yet run here.
"""
from xmc_jax.config import train_on
from xmc_jax.methods import galip

EPOCHS = 1_502


def get_config():
  config = galip.config()
  config.steps = EPOCHS * (train_on(config, 'cub') // config.batch_size)
  config.evals.protocol = 'legacy-torchvision'
  return config
