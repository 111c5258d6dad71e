"""XMC-GAN on Localized Narratives of Open Images at 256 px. Published: FID 26.91.

  xmc weights get bert-base-uncased vgg19 inception-tf2015
  xmc prepare ln_openimages --source ORIGINALS --size 256
  xmc train --config configs/xmc_gan_ln_openimages256.py --workdir runs/xmc_gan_ln_openimages256
  xmc evaluate --workdir runs/xmc_gan_ln_openimages256

On paper 495,550 steps take 35 hours on 16 TPU v5e chips, 25 on a v4-32, 14 on 8 H100
(docs/scaling.md). Not run here. Scores use the protocol tf2015, against all held-out images; we do
not know which of them the paper used.

From the paper: losses, width 96, batch size 256, VGG-19. From the released code: networks, step,
optimizer, 64 word pieces. Ours: negatives and BatchNorm over the whole batch, the layer of VGG-19,
masked mean for the sentence embedding, and 500 epochs of 507,444 narratives; we do not know how
long the paper trained. An image with several narratives is one example with several captions,
unless it was prepared with `--option each=narrative`.
"""
from xmc_jax.methods import xmc_gan


def get_config():
  return xmc_gan.published('ln_openimages')
