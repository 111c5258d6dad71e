"""SSA-GAN on the embedded emoji scenes at 64 px, at a size for CPUs.

  xmc describe --config configs/ssa_gan_scenes.py
  xmc train --config configs/ssa_gan_scenes.py --workdir runs/ssa_gan_scenes

It reads with a DAMSM that must be trained first (configs/damsm_scenes.py).

What is the paper's: losses, step, optimiser, noise. Ours: images of 64 px, width 16, 16 rows, a
SqueezeNet as the DAMSM's image network, and an average of the generator.
"""
from xmc_jax.config import embedded
from xmc_jax.methods import damsm, ssa_gan


def get_config():
  config = ssa_gan.config()
  embedded(config, 'emoji_scenes')
  damsm.small(config)
  config.steps = 12_000
  config.batch_size = 16
  config.text.encoder = 'runs/damsm_scenes/encoder'
  config.model.width = 16
  return config
