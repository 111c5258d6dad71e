"""AttnGAN on MS-COCO-14 at 256 px, as its released code trains it.

  xmc describe --config configs/attngan_coco.py
  xmc train --config configs/attngan_coco.py --workdir runs/attngan_coco

Published: inception score 25.89, and FID 35.49 as DM-GAN's authors measured it. Everything follows
the released code, except that each example uses its own padding mask. Its text encoder is a DAMSM
that must be trained first (configs/damsm_coco.py). It needs the prepared data set `coco2014`. Not
yet run here.
"""
from xmc_jax.config import train_on
from xmc_jax.methods import attngan

EPOCHS = 120


def get_config():
  config = attngan.config()
  config.batch_size = 14
  config.steps = EPOCHS * (train_on(config, 'coco2014') // config.batch_size)
  config.model.width = 48
  config.model.d_width = 96
  config.model.residuals = 3
  config.text.encoder = 'runs/damsm_coco/encoder'
  config.text.words = 27_297
  config.text.length = 12
  config.terms.damsm_words = config.terms.damsm_sentence = 50.0
  config.terms.damsm_mask_same_class = False      # its code knows no classes of images
  return config
