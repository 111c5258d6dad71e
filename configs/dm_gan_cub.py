"""DM-GAN on CUB-200-2011 at 256 px, as its released code trains it.

  xmc describe --config configs/dm_gan_cub.py
  xmc train --config configs/dm_gan_cub.py --workdir runs/dm_gan_cub

Published: inception score 4.75 and FID 16.09; 4.71 and 15.34 of the released weights. The paper
says 600 epochs, the released settings 800. All is the released code's but the masks of padding,
which are each row's own, and power iterations, one a phase. It reads with a DAMSM that must be
trained first (configs/damsm_cub.py), on the data set `cub`, prepared. Not yet run here.
"""
from xmc_jax.config import train_on
from xmc_jax.methods import dm_gan

EPOCHS = 800


def get_config():
  config = dm_gan.config()
  config.steps = EPOCHS * (train_on(config, 'cub') // config.batch_size)
  config.text.encoder = 'runs/damsm_cub/encoder'
  return config
