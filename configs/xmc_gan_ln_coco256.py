"""XMC-GAN on Localized Narratives of COCO at 256 px. Published: FID 14.12.

  xmc weights get bert-base-uncased vgg19 inception-tf2015
  xmc prepare ln_coco --source ORIGINALS --size 256
  xmc train --config configs/xmc_gan_ln_coco256.py --workdir runs/xmc_gan_ln_coco256
  xmc evaluate --workdir runs/xmc_gan_ln_coco256

On paper 131,125 steps take 9.2 hours on 16 TPU v5e chips, 6.6 on a v4-32, 3.7 on 8 H100
(docs/scaling.md). Not run here. Scores use the protocol tf2015, against the 5,000 held-out images.

From the paper: losses, width 96, batch size 256, VGG-19. From the released code: networks, step,
optimizer, 64 word pieces. Ours: negatives and BatchNorm over the whole batch, the layer of VGG-19,
masked mean for the sentence embedding, and 500 epochs of 134,272 narratives; we do not know how
long the paper trained. An image with several narratives is one example with several captions,
unless it was prepared with `--option each=narrative`.
"""
from xmc_jax.methods import xmc_gan


def get_config():
  return xmc_gan.published('ln_coco')
