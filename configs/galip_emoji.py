"""GALIP on the embedded emoji at 64 px, at a size for CPUs.

  xmc train --config configs/galip_emoji.py --workdir runs/galip_emoji

It is built around a small CLIP that must be trained first (configs/clip_emoji.py).

From the paper: networks, losses, step, optimizer, noise. Ours: that CLIP, of 8 x 8 patches and 6
layers, images of 64 px, width 16, batch size 32, and a moving average of the generator.
"""
from xmc_jax.config import embedded
from xmc_jax.methods import clip, galip


def get_config():
  config = galip.config()
  embedded(config, 'emoji')
  config.steps = 12_000
  config.batch_size = 32
  config.model.width = 16
  config.clip.update(clip.small())
  config.text.encoder = 'runs/clip_emoji/encoder'
  config.text.length = 20
  return config
