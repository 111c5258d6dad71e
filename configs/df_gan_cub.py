"""DF-GAN on CUB-200-2011 at 256 px, as its released code trains it.

  xmc describe --config configs/df_gan_cub.py
  xmc train --config configs/df_gan_cub.py --workdir runs/df_gan_cub

Published: inception score 5.10, FID 14.81; for the released weights FID 12.10. Everything follows
the released code of the CVPR version. Its text encoder is a DAMSM that must be trained first
(configs/damsm_cub.py). It needs the prepared data set `cub`. Not yet run here.
"""
from xmc_jax.config import train_on
from xmc_jax.methods import df_gan

EPOCHS = 1_300


def get_config():
  config = df_gan.config()
  config.steps = EPOCHS * (train_on(config, 'cub') // config.batch_size)
  config.text.encoder = 'runs/damsm_cub/encoder'
  return config
