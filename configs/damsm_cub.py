"""DAMSM on CUB-200-2011 as AttnGAN's released code trains it: 299 px, Inception-v3, 200 epochs.

  xmc describe --config configs/damsm_cub.py
  xmc train --config configs/damsm_cub.py --workdir runs/damsm_cub

Published: batch size 48, 18 words, the losses and their gammas, the optimizer with its decay and
clip, and 200 epochs judging by the name of the released file. Images of one species are not
negatives of each other. The data set `cub` must be prepared first, and the weights
`inception-torchvision` installed (`xmc weights`). Not yet run here.

For supervised contrast (arXiv 2412.03957) see configs/scl.py.
"""
from xmc_jax.config import train_on
from xmc_jax.methods import damsm

EPOCHS = 200


def get_config():
  config = damsm.config()
  epoch = train_on(config, 'cub') // config.batch_size
  config.steps = EPOCHS * epoch
  config.optim.encoder.decay.every = epoch
  config.text.words = 5_450
  return config
