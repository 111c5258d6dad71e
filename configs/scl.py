"""Supervised contrast over two branches (arXiv 2412.03957), on top of any other config here.

After the colon stands the config that it extends. First the image-text encoder, then the generator:

  xmc train --config configs/scl.py:damsm_cub --workdir runs/scl_damsm_cub
  xmc train --config configs/scl.py:attngan_cub --workdir runs/scl_attngan_cub

So too for dm_gan_cub and ssa_gan_cub, with the same encoder, for those of coco, and at sizes for CPUs
for those of emoji and scenes. A generator reads with the encoder runs/scl_... where its own config
says runs/...; all else is as there. galip_cub and galip_coco keep the published CLIP, galip_emoji
and galip_scenes have clip_emoji and clip_scenes before them. XMC-GAN's text encoder is never
trained: scl.py:xmc_gan_coco256 is enough.

Images are of like label by the rule `exact`: the same species, or the same set of classes. For
another add --config.data.partners=dominant, overlap or jaccard, to both commands. What is published
and what is our reconstruction: docs/scl.md.
"""
import pathlib
import runpy

from xmc_jax.methods import scl

CONFIGS, RUNS = pathlib.Path(__file__).parent, 'runs/'


def get_config(name='attngan_emoji'):
  base, _, row = name.partition(':')
  path = CONFIGS / f'{base}.py'
  if base == 'scl' or not path.exists():
    raise ValueError(f'{base!r} is no config that it can extend; give the name of another file '
                     'in configs/, for instance attngan_cub')
  config = scl.extend(runpy.run_path(str(path))['get_config'](*filter(None, [row])))
  if config.text.get('encoder', '').startswith(RUNS):
    config.text.encoder = config.text.encoder.replace(RUNS, f'{RUNS}scl_', 1)
  return config
