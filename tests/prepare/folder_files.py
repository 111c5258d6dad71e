"""Folders of images of one's own, as users have them, and what the reader finds there."""
import numpy as np
import pytest
from PIL import Image

from xmc_jax.prepare import folder
from xmc_jax.types import UserError

KINDS = {'.jpg': 'JPEG', '.jpeg': 'JPEG', '.png': 'PNG', '.webp': 'WEBP', '.gif': 'GIF',
         '.bmp': 'BMP', '.tif': 'TIFF', '.tiff': 'TIFF'}


def write(root, names, texts=None):
  """Images of 12 x 10 px of one grey each, and text files."""
  for number, name in enumerate(names):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.full((10, 12, 3), 10 * number % 256, np.uint8))
    image.save(path, KINDS[path.suffix.lower()])
  for name, text in (texts or {}).items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
  return root


def found(original):
  """{split: {name: captions}}."""
  return {split: {raw.name: raw.captions for raw in original.examples(split, 0, count)}
          for split, count in original.counts.items()}


def raws(original):
  """{name: OriginalExample} of both splits."""
  return {raw.name: raw for split, count in original.counts.items()
          for raw in original.examples(split, 0, count)}


def refused(source, words, **options):
  with pytest.raises(UserError, match=words) as error:
    folder.open(source, **options)
  assert '\n' not in str(error.value)


TWO = {'train/a.jpg': 'A', 'val/b.jpg': 'B'}      # the shortest set with both splits
HEAD = 'file,caption\n'


def in_splits(root, extra=()):
  """Two images in train/ and val/, with captions A and B."""
  return write(root, [*TWO, *extra], {f'{name[:-4]}.txt': text for name, text in TWO.items()})
