"""DF-GAN on MS-COCO-14 at 256 px, as its released code trains it.

  xmc describe --config configs/df_gan_coco.py
  xmc train --config configs/df_gan_coco.py --workdir runs/df_gan_coco

Published: FID 19.32; for the released weights 15.41. Everything follows the released code of the
CVPR version. Its text encoder is a DAMSM that must be trained first (configs/damsm_coco.py). It
needs the prepared data set `coco2014`. Not yet run here.
"""
from xmc_jax.config import train_on
from xmc_jax.methods import df_gan

EPOCHS = 300


def get_config():
  config = df_gan.config()
  config.steps = EPOCHS * (train_on(config, 'coco2014') // config.batch_size)
  config.text.encoder = 'runs/damsm_coco/encoder'
  config.text.words = 27_297
  return config
