"""XMC-GAN on Localized Narratives of COCO at 256 px. Published: FID 14.12.

  xmc weights get bert-base-uncased vgg19 inception-tf2015
  xmc prepare ln_coco --source ORIGINALS --size 256
  xmc train --config configs/xmc_gan_ln_coco256.py --workdir runs/xmc_gan_ln_coco256
  xmc evaluate --workdir runs/xmc_gan_ln_coco256

On paper 131,125 steps take 9.3 hours on 16 TPU v5e chips, 6.7 on a v4-32, 3.8 on 8 H100
(docs/scaling.md). Not run here. The score is of the protocol tf2015, against the 5,000 held-out
images.

The paper's: losses, width 96, 256 rows, VGG-19. The released code's: networks, step, optimiser, 64
word pieces. Ours: negatives and BatchNorm of all rows, which layer of VGG-19, masked sentence mean,
and 500 epochs of 134,272 narratives; how long the paper trained we do not know. An image with
several narratives is one example with several captions, unless it was prepared with
`--option each=narrative`.
"""
from xmc_jax.methods import xmc_gan


def get_config():
  return xmc_gan.published('ln_coco')
