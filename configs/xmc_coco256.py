"""XMC-GAN on MS-COCO-14 at 256 px: the paper's main run (published FID 9.33).

  xmc describe --config configs/xmc_coco256.py
  xmc train --config configs/xmc_coco256.py --workdir runs/xmc_coco256

Width 96 and 256 rows from the paper's released code; so are the losses, the step and the optimiser.
Negatives and BatchNorm are global here; the released code kept both to the 8 rows of a device. The
data set `coco2014` must be prepared first. Not yet run here.
"""
from xmc_jax import config as defaults

COCO_TRAIN = 82_783     # pictures
EPOCHS = 500            # our choice; rows of both rounds count


def get_config():
  config = defaults.base()
  config.batch_size = 256
  config.steps = EPOCHS * COCO_TRAIN // (2 * config.batch_size)
  config.model.size = 256
  config.model.width = 96
  config.text.encoder = 'bert-base-uncased'
  config.text.length = 17
  config.terms.image_frozen = 1.0
  config.data.name = 'coco2014'
  return config
