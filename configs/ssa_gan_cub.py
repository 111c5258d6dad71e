"""SSA-GAN on CUB-200-2011 at 256 px, as its released code trains it.

  xmc describe --config configs/ssa_gan_cub.py
  xmc train --config configs/ssa_gan_cub.py --workdir runs/ssa_gan_cub

Published: inception score 5.17, FID 15.61. Everything follows the released code. Its text encoder
is a DAMSM that must be trained first (configs/damsm_cub.py). It needs the prepared data set `cub`.
Not yet run here.
"""
from xmc_jax.config import train_on
from xmc_jax.methods import ssa_gan

EPOCHS = 600


def get_config():
  config = ssa_gan.config()
  config.steps = EPOCHS * (train_on(config, 'cub') // config.batch_size)
  config.text.encoder = 'runs/damsm_cub/encoder'
  return config
