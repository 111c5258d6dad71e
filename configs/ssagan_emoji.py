"""SSA-GAN on the embedded emoji at 64 px, at a size for CPUs.

  xmc describe --config configs/ssagan_emoji.py
  xmc train --config configs/ssagan_emoji.py --workdir runs/ssagan_emoji

It reads with a DAMSM that must be trained first (configs/damsm_emoji.py).

What is the paper's: losses, step, optimiser, noise. Ours: pictures of 64 px, width 16, 16 rows, a
SqueezeNet as the DAMSM's image network, and an average of the generator.
"""
from xmc_jax.recipes import ssagan


def get_config():
  config = ssagan.config()
  config.steps = 12_000
  config.batch_size = 16
  config.ema_decay = 0.998
  config.model.size = 64
  config.model.width = 16
  config.text.encoder = 'runs/damsm_emoji/encoder'
  config.text.words = 2624
  config.text.length = 16
  config.image.encoder = 'squeezenet'
  config.data.name = 'emoji'
  config.evals.protocol = 'offline'
  config.evals.fakes = 990
  config.every.save = 250
  config.every.pictures = 250
  return config
