"""GALIP on the embedded emoji scenes at 64 px, at a size for CPUs.

  xmc train --config configs/galip_scenes.py --workdir runs/galip_scenes

It is built around a small CLIP that must be trained first (configs/clip_scenes.py).

From the paper: networks, losses, step, optimizer, noise. Ours: that CLIP, of 8 x 8 patches and 6
layers, images of 64 px, width 16, batch size 32, and a moving average of the generator.
"""
from xmc_jax.config import embedded
from xmc_jax.methods import clip, galip


def get_config():
  config = galip.config()
  embedded(config, 'emoji_scenes')
  config.steps = 12_000
  config.batch_size = 32
  config.model.width = 16
  config.clip.update(clip.small())
  config.text.encoder = 'runs/clip_scenes/encoder'
  return config
