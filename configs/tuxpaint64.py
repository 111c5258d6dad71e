"""XMC-GAN on Tux Paint's stamps at 64 px, at a size for CPUs.

From Debian's package, 161 MB, which https://packages.debian.org/tuxpaint-stamps-default has too:

  apt-get download tuxpaint-stamps-default
  xmc prepare tuxpaint --source .
  xmc train --config configs/tuxpaint64.py --workdir runs/tuxpaint64

From the paper: losses, step, optimizer, noise. Ours: width 24, batch size 16, MiniLM for the
captions, float32 (faster than bfloat16 on a CPU), four times the paper's learning rate for the
generator, a shorter moving average, and all augmentations before the discriminator, since there are
only 492 images. Scores compare with the training images, since 45 held-out ones are too few for a
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
