"""Makes a grid of images of a data set, each with one of its captions, to inspect the data.

    python tools/contact_sheet.py emoji_styles --size 64 --out sheet.png

The name is as of `xmc_jax.data.source.load`. Images and captions are chosen by `--seed`.
"""
from __future__ import annotations

import argparse

import numpy as np
from PIL import Image

from xmc_jax.data import source
from xmc_jax.utils import image_io


def make_grid(data: source.Source, number: int, columns: int, seed: int) -> Image.Image:
  """Returns a grid of `number` images of a split, or of all if it has fewer."""
  rng = np.random.default_rng(seed)
  chosen = np.sort(rng.choice(len(data), min(number, len(data)), replace=False)).tolist()
  captions = [rng.choice(data.captions(i)) for i in chosen]
  images = np.stack([data.image(i) for i in chosen]) / 255
  return Image.fromarray(image_io.grid(images, captions, columns))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('name', help='of the data set')
  parser.add_argument('--split', default='train', choices=source.SPLITS)
  parser.add_argument('--size', type=int, default=64, help='pixels of a side')
  parser.add_argument('--number', type=int, default=30, help='of images')
  parser.add_argument('--columns', type=int, default=10)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--out', required=True, help='a PNG file')
  flags = parser.parse_args()
  data = source.load(flags.name, flags.split, flags.size)
  make_grid(data, flags.number, flags.columns, flags.seed).save(flags.out)
  print(f'{flags.out}: of {len(data):,} images of {flags.name}/{flags.split}')


if __name__ == '__main__':
  main()
