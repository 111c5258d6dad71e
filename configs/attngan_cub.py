"""AttnGAN on CUB-200-2011 at 256 px, as its released code trains it.

  xmc describe --config configs/attngan_cub.py
  xmc train --config configs/attngan_cub.py --workdir runs/attngan_cub

Published: inception score 4.36, and FID 23.98 as DM-GAN's authors measured it. Everything follows
the released code, except that each example uses its own padding mask. Its text encoder is a DAMSM
that must be trained first (configs/damsm_cub.py). It needs the prepared data set `cub`. Not yet run
here.
"""
from xmc_jax.config import train_on
from xmc_jax.methods import attngan

EPOCHS = 600


def get_config():
  config = attngan.config()
  config.steps = EPOCHS * (train_on(config, 'cub') // config.batch_size)
  config.text.encoder = 'runs/damsm_cub/encoder'
  return config
