"""XMC-GAN on MS-COCO-14 at 128 px, the size that the released code's README reports for GPUs.

  xmc describe --config configs/xmc_coco128.py
  xmc train --config configs/xmc_coco128.py --workdir runs/xmc_coco128

That README trained 7 GPUs with 8 rows each and gives FID 10.5 to 11.0 on a ruler of its own. Here
56 rows with global negatives and BatchNorm. The data set `coco2014` must be prepared first. Not
yet run here.
"""
from xmc_jax import config as defaults

COCO_TRAIN = 82_783     # pictures
EPOCHS = 500            # our choice; rows of both rounds count


def get_config():
  config = defaults.base()
  config.batch_size = 56
  config.steps = EPOCHS * COCO_TRAIN // (2 * config.batch_size)
  config.model.size = 128
  config.model.width = 96
  config.text.encoder = 'bert-base-uncased'
  config.text.length = 17
  config.terms.image_frozen = 1.0
  config.data.name = 'coco2014'
  return config
