"""XMC-GAN on Tux Paint's stamps at 64 px, small enough for a CPU.

  apt-get download tuxpaint-stamps-default      # 161 MB; also at https://packages.debian.org
  PYTHONPATH=examples xmc prepare tuxpaint.reader --source .
  xmc train --config examples/tuxpaint/tuxpaint64.py --workdir runs/tuxpaint64

Losses, step, optimizer and noise are the paper's. Ours: width 24, batch size 16, MiniLM as the text
encoder, float32 (faster than bfloat16 on a CPU), four times the paper's learning rate for the
generator, a shorter weight average, and all augmentations of the discriminator's input, since there
are only 492 images. Scores compare with the training images: 45 held-out images are too few for a
distance.
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
  config.model.augment = ('color', 'translation', 'cutout')
  config.text.encoder = 'all-MiniLM-L6-v2'
  config.text.length = 24
  config.optim.g.lr = 4e-4
  config.data.name = 'tuxpaint'
  config.evals.protocol = 'offline'
  config.evals.reference = 'train'
  config.evals.fakes = 984
  config.every.report = 50
  config.every.save = 250
  config.every.images = 250
  return config
