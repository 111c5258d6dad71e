"""DF-GAN on the embedded emoji scenes at 64 px, at a size for CPUs.

  xmc describe --config configs/df_gan_scenes.py
  xmc train --config configs/df_gan_scenes.py --workdir runs/df_gan_scenes

Its text encoder is a DAMSM that must be trained first (configs/damsm_scenes.py).

From the paper: losses, step, optimizer, noise. Ours: images of 64 px, width 16, batch size 16,
SqueezeNet as the DAMSM's image network, and a moving average of the generator.
"""
from xmc_jax.config import embedded
from xmc_jax.methods import damsm, df_gan


def get_config():
  config = df_gan.config()
  embedded(config, 'emoji_scenes')
  damsm.small(config)
  config.steps = 12_000
  config.batch_size = 16
  config.text.encoder = 'runs/damsm_scenes/encoder'
  config.model.width = 16
  return config
