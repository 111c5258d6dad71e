"""XMC-GAN on the embedded emoji at 64 px, at a size for CPUs.

  xmc train --config configs/emoji64.py --workdir runs/emoji64

One shared CPU core trained 29 images/s, at which the 12,000 steps take 3.7 hours; images follow
their captions after a third of them (docs/runs).

From the paper: losses, step, optimizer, noise. Ours: width 24, batch size 16, MiniLM for the
captions, float32 (faster than bfloat16 on a CPU), four times the paper's learning rate for the
generator, a shorter moving average, and random shifts before the discriminator, since there are
only 1,713 images.
"""
from xmc_jax import config as defaults
from xmc_jax.methods import xmc_gan


def get_config():
  config = xmc_gan.config()
  defaults.embedded(config, 'emoji')
  config.steps = 12_000
  config.batch_size = 16
  config.model.width = 24
  config.model.augment = ('translation',)
  config.text.encoder, config.text.cached = 'all-MiniLM-L6-v2', True
  config.optim.g.lr = 4e-4
  config.every.report = 50
  return config
