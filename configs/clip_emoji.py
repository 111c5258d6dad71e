"""A small CLIP on the embedded emoji at 64 px, for the GALIP of configs/galip_emoji.py.

  xmc train --config configs/clip_emoji.py --workdir runs/clip_emoji

It writes the folder runs/clip_emoji/encoder, in the layout of published CLIPs. All sizes and
settings are ours.

For supervised contrast (arXiv 2412.03957) see configs/scl.py.
"""
from xmc_jax.config import embedded
from xmc_jax.methods import clip


def get_config():
  config = clip.config()
  embedded(config, 'emoji')
  config.steps = 2_000
  config.batch_size = 64
  config.model.trained = 'all'
  config.clip.update(clip.small())
  config.text.encoder = ''
  config.text.length = 20
  config.terms.contrast_temperature = 0.07
  config.terms.mask_same_class = False
  config.optim.encoder.update(lr=1e-3, warmup=300)
  config.every.report = 50
  return config
