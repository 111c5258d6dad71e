"""XMC-GAN's ablation on MS-COCO-14: which contrasts it learns from, at width 64.

  xmc weights get bert-base-uncased vgg19 inception-tf2015
  xmc prepare coco2014 --source ORIGINALS --size 256
  xmc train --config configs/xmc_gan_ablation.py:sentence --workdir runs/xmc_gan_ablation_sentence
  xmc evaluate --workdir runs/xmc_gan_ablation_sentence

The contrasts to train with follow the colon, joined by +, or none or all:

  none, sentence, word, sentence+word, image, image_frozen, image+image_frozen, all

Published, from memory and to be checked with the paper: FID about 39.3 for none, 19.3 for sentence,
24.4 for word, 14.3 for sentence+word, 11.9 for all. An ablation here must show that each contrast
helps alone, those with text more than those between images, and all together most.

Not run here; on paper one row of the table takes three fifths of the time of `xmc_gan_coco256`
(docs/reproducing.md). From the paper: width 64 and the rows of the table. Ours: 256 px and batch
size 256, an assumption; everything else as in `xmc_gan_coco256`.
"""
from xmc_jax.methods import xmc_gan

CONTRASTS = ('sentence', 'word', 'image', 'image_frozen')


def get_config(row='all'):
  config = xmc_gan.published('coco2014')
  config.model.width = 64
  left = {'none': (), 'all': CONTRASTS}.get(row, row.split('+'))
  if unknown := [name for name in left if name not in CONTRASTS]:
    raise ValueError(f'{unknown[0]!r} is no contrast: give none, all, or some of '
                     f'{", ".join(CONTRASTS)} joined by +')
  for name in CONTRASTS:
    config.terms[name] = float(name in left)
  return config
