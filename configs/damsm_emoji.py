"""DAMSM on the embedded emoji at 64 px, with a small image network, for CPUs.

  xmc train --config configs/damsm_emoji.py --workdir runs/damsm_emoji

SqueezeNet of ImageNet on images enlarged to 128 px, in place of Inception-v3 at 299 px, is ours; so
is the short schedule.
"""
from xmc_jax.config import embedded
from xmc_jax.methods import damsm


def get_config():
  config = damsm.config()
  embedded(config, 'emoji')
  damsm.small(config)
  config.steps = 1_500
  config.text.length = 14
  config.terms.mask_same_class = False
  config.optim.encoder.decay.every = 1713 // config.batch_size
  config.every.report = 50
  return config
