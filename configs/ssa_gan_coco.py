"""SSA-GAN on MS-COCO-14 at 256 px, as its released code trains it.

  xmc describe --config configs/ssa_gan_coco.py
  xmc train --config configs/ssa_gan_coco.py --workdir runs/ssa_gan_coco

Published: FID 19.37; users of the released weights report 28.19. Everything follows the released
code. Its text encoder is a DAMSM that must be trained first (configs/damsm_coco.py). It needs the
prepared data set `coco2014`. Not yet run here.
"""
from xmc_jax.config import train_on
from xmc_jax.methods import ssa_gan

EPOCHS = 120


def get_config():
  config = ssa_gan.config()
  config.steps = EPOCHS * (train_on(config, 'coco2014') // config.batch_size)
  config.text.encoder = 'runs/damsm_coco/encoder'
  config.text.words = 27_297
  config.terms.damsm_mask_same_class = False      # its code knows no classes of images
  return config
