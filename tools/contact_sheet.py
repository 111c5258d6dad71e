"""Draws images of a data set with one of their captions each, to look at what was prepared.

    python tools/contact_sheet.py emoji_styles --size 64 --out sheet.png

Takes `xmc_jax.data.source.load`'s names. Images and captions are drawn by `--seed`.
"""
from __future__ import annotations

import argparse

import numpy as np
from PIL import Image

from xmc_jax.data import source
from xmc_jax.utils import image_io


def draw(data: source.Source, number: int, columns: int, seed: int) -> Image.Image:
  """A grid of `number` images of a split, or of all if it has fewer."""
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
  draw(data, flags.number, flags.columns, flags.seed).save(flags.out)
  print(f'{flags.out}: of {len(data):,} images of {flags.name}/{flags.split}')


if __name__ == '__main__':
  main()
