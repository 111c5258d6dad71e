"""XMC-GAN's ablation on MS-COCO-14: which contrasts it learns from, at width 64.

  xmc weights get bert-base-uncased vgg19 inception-tf2015
  xmc prepare coco2014 --source ORIGINALS --size 256
  xmc train --config configs/xmc_gan_ablation.py:sentence --workdir runs/xmc_gan_ablation_sentence
  xmc evaluate --workdir runs/xmc_gan_ablation_sentence

After the colon stand the contrasts that are left, joined by +, or none or all:

  none, sentence, word, sentence+word, image, image_frozen, image+image_frozen, all

Published, from memory and to be checked with the paper: FID about 39.3 for none, 19.3 for sentence,
24.4 for word, 14.3 for sentence+word, 11.9 for all. That each contrast helps alone, those with the
text more than those of images, and all together most, is what an ablation here must show.

Not run here; on paper a row takes two thirds of the time of `xmc_gan_coco256` (docs/reproducing.md).
The paper's: width 64, the rows. Ours: 256 px and 256 rows, which we suppose, and all else as in
`xmc_gan_coco256`.
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
