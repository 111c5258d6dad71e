"""DAMSM on MS-COCO-14 as AttnGAN's released code trains it: 299 px, Inception-v3, 100 epochs.

  xmc describe --config configs/damsm_coco.py
  xmc train --config configs/damsm_coco.py --workdir runs/damsm_coco

Published: 48 rows, 15 words, the losses and their gammas, the optimiser with its decay and clip,
and 100 epochs by the name of the released file. AttnGAN knows no labels of COCO, so every other
image is a negative. The data set `coco2014` must be prepared first, and the weights
`inception-torchvision` be here (`xmc weights`). A vocabulary that was not prepared with AttnGAN's
lists has another size than the published 27,297 words; the error then tells `text.words`. Not yet
run here.

With the supervised contrast of arXiv 2412.03957: configs/scl.py.
"""
from xmc_jax.config import train_on
from xmc_jax.methods import damsm

EPOCHS = 100


def get_config():
  config = damsm.config()
  epoch = train_on(config, 'coco2014') // config.batch_size
  config.steps = EPOCHS * epoch
  config.optim.encoder.decay.every = epoch
  config.text.words, config.text.length = 27_297, 15
  config.terms.mask_same_class = False
  return config
