"""XMC-GAN on the embedded emoji at 32 px: the whole program in minutes on two CPU cores.

  xmc train --config configs/demo.py --workdir runs/demo
"""
from xmc_jax.methods import xmc_gan


def get_config():
  config = xmc_gan.config()
  config.steps = 800
  config.batch_size = 16
  config.model.size = 32
  config.model.width = 24
  config.model.dtype = 'float32'    # faster than bfloat16 on a CPU
  config.text.encoder = 'all-MiniLM-L6-v2'
  config.text.length = 16
  config.optim.g.lr = 4e-4
  config.evals.protocol = 'offline'
  config.every.report = 50
  config.every.save = 200
  config.every.images = 200
  return config
