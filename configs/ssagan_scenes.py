"""SSA-GAN on the embedded emoji scenes at 64 px, at a size for CPUs.

  xmc describe --config configs/ssagan_scenes.py
  xmc train --config configs/ssagan_scenes.py --workdir runs/ssagan_scenes

It reads with a DAMSM that must be trained first (configs/damsm_scenes.py).

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
  config.model.one_class = False
  config.model.classes = 114
  config.text.encoder = 'runs/damsm_scenes/encoder'
  config.text.words = 273
  config.text.length = 24
  config.image.encoder = 'squeezenet'
  config.data.name = 'emoji_scenes'
  config.evals.protocol = 'offline'
  config.evals.fakes = 1000
  config.every.save = 250
  config.every.pictures = 250
  return config
