"""AttnGAN on the embedded emoji scenes at 64 px, at a size for CPUs.

  xmc describe --config configs/attngan_scenes.py
  xmc train --config configs/attngan_scenes.py --workdir runs/attngan_scenes

Its text encoder is a DAMSM that must be trained first (configs/damsm_scenes.py).

From the paper: losses, step, optimizer, noise. Ours: images of 16, 32 and 64 px, width 32, batch
size 16, SqueezeNet as the DAMSM's image network, a shorter moving average.
"""
from xmc_jax.config import embedded
from xmc_jax.methods import attngan, damsm


def get_config():
  config = attngan.config()
  embedded(config, 'emoji_scenes')
  damsm.small(config)
  config.steps = 12_000
  config.batch_size = 16
  config.text.encoder = 'runs/damsm_scenes/encoder'
  config.model.width = 32
  config.model.d_width = 32
  config.terms.damsm_mask_same_class = False
  return config
