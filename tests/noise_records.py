"""A prepared folder of noise: images of known pixels in all codecs, with captions and labels."""
import io

import numpy as np
from PIL import Image

from xmc_jax.data import records

ABOUT = records.DatasetInfo('noise', 32, ('cat', 'dog', 'owl'), several_labels=False)
CODECS = (('PNG', {}), ('JPEG', {'quality': 95}), ('WEBP', {'lossless': True}))


def noise(number):
  """Pixels [h, w, 3] of image `number`: 32 to 45 px high, 32 to 48 px wide."""
  random = np.random.default_rng(number)
  shape = random.integers(32, 46), random.integers(32, 49), 3
  return random.integers(0, 256, shape, np.uint8)


def make_record(number, about=ABOUT):
  """PNG, JPEG and WebP in turn; one to three captions."""
  codec, options = CODECS[number % 3]
  file = io.BytesIO()
  Image.fromarray(noise(number)).save(file, codec, **options)
  captions = tuple(f'noise {number}, {name}' for name in ('one', 'two', 'three')[:number % 3 + 1])
  labels = (number % 3,) if not about.several_labels else (0, 2)[:number % 3]
  return records.Example(file.getvalue(), captions, labels, number % 5 != 0, {'from': number})


def make_folder(folder, about=ABOUT, train=(20, 1, 26), heldout=(5,)):
  """A folder with shards of these lengths."""
  first = 0
  for split, lengths in (('train', train), ('heldout', heldout)):
    for number, length in enumerate(lengths):
      some = (make_record(i, about) for i in range(first, first + length))
      records.write_shard(folder, about, split, number, some)
      first += length
  records.finish(folder, about, {'train': len(train), 'heldout': len(heldout)})
  return folder
