"""A small CLIP on the embedded emoji scenes at 64 px, for the GALIP of configs/galip_scenes.py.

  xmc train --config configs/clip_scenes.py --workdir runs/clip_scenes

It writes the folder runs/clip_scenes/encoder, in the layout of published CLIPs. All sizes and
settings are ours.

For supervised contrast (arXiv 2412.03957) see configs/scl.py.
"""
from xmc_jax.config import embedded
from xmc_jax.methods import clip


def get_config():
  config = clip.config()
  embedded(config, 'emoji_scenes')
  config.steps = 4_000
  config.batch_size = 64
  config.model.trained = 'all'
  config.clip.update(clip.small())
  config.text.encoder = ''
  config.terms.contrast_temperature = 0.07
  config.terms.mask_same_class = False
  config.optim.encoder.update(lr=1e-3, warmup=300)
  config.every.report = 50
  return config
