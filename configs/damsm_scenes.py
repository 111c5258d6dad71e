"""DAMSM on the embedded scenes at 64 px, with a small image network, for CPUs.

  xmc train --config configs/damsm_scenes.py --workdir runs/damsm_scenes

SqueezeNet of ImageNet on images enlarged to 128 px, in place of Inception-v3 at 299 px, is ours; so
is the short schedule. No label is used, since scenes show several kinds of objects.
"""
from xmc_jax.config import embedded
from xmc_jax.methods import damsm


def get_config():
  config = damsm.config()
  embedded(config, 'emoji_scenes')
  damsm.small(config)
  config.text.length = 18
  config.steps = 1_500
  config.terms.mask_same_class = False
  config.optim.encoder.decay.every = 50
  config.every.report = 50
  return config
