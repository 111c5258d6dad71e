"""AttnGAN on the embedded emoji at 64 px, at a size for CPUs.

  xmc describe --config configs/attngan_emoji.py
  xmc train --config configs/attngan_emoji.py --workdir runs/attngan_emoji

It reads with a DAMSM that must be trained first (configs/damsm_emoji.py).

What is the paper's: losses, step, optimiser, noise. Ours: images of 16, 32 and 64 px, width 32,
16 rows, a SqueezeNet as the DAMSM's image network, a shorter average.
"""
from xmc_jax.config import embedded
from xmc_jax.methods import attngan, damsm


def get_config():
  config = attngan.config()
  embedded(config, 'emoji')
  damsm.small(config)
  config.steps = 12_000
  config.batch_size = 16
  config.text.encoder = 'runs/damsm_emoji/encoder'
  config.model.width = 32
  config.model.d_width = 32
  config.terms.damsm_mask_same_class = False
  return config
