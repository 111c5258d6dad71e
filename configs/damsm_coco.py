"""DAMSM on MS-COCO-14 as AttnGAN's released code trains it: 299 px, Inception-v3, 100 epochs.

  xmc describe --config configs/damsm_coco.py
  xmc train --config configs/damsm_coco.py --workdir runs/damsm_coco

Published: batch size 48, 15 words, the losses and their gammas, the optimizer with its decay and
clip, and 100 epochs judging by the name of the released file. AttnGAN uses no labels of COCO, so
every other image is a negative. The data set `coco2014` must be prepared first, and the weights
`inception-torchvision` installed (`xmc weights`). A vocabulary that was not prepared with AttnGAN's
lists has another size than the published 27,297 words; the error then says which `text.words` to
set. Not yet run here.

For supervised contrast (arXiv 2412.03957) see configs/scl.py.
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
