"""A data set of the tests' own: images of all kinds, drawn from their numbers."""
import dataclasses
import functools
import io
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

from xmc_jax.prepare.images import Storage
from xmc_jax.prepare.job import Job
from xmc_jax.prepare.original import OriginalExample, bad

COUNTS = {'train': 23, 'heldout': 7}
BAD = {('train', 4): 'cut', ('train', 11): 'none', ('heldout', 2): 'listed'}


def pixels(number, width=60, height=48):
  """Noise on a ramp, uint8 [height, width, 3]."""
  random = np.random.default_rng(number)
  ramp = np.linspace(0, 200, width)[None, :, None]
  return (ramp + random.integers(0, 55, (height, width, 3))).astype(np.uint8)


def image_file(number, codec='JPEG'):
  file = io.BytesIO()
  Image.fromarray(pixels(number, 50 + number % 30)).save(file, codec)
  return file.getvalue()


@dataclasses.dataclass(frozen=True)
class Toy:
  """See `xmc_jax.prepare.original.Original`; `broken` images are as `BAD` says."""
  files: dict
  broken: bool = False
  slow: float = 0.0       # seconds that an example takes
  counts: dict = dataclasses.field(default_factory=lambda: dict(COUNTS))
  name: str = 'toy'
  class_names: tuple = ('cat', 'dog', 'owl')
  several_labels: bool = True
  vocabulary: tuple | None = None
  left_out: dict = dataclasses.field(default_factory=lambda: {'it has no caption': 3})

  def examples(self, split, start, stop):
    for i in range(start, stop):
      why = BAD.get((split, i)) if self.broken else None
      number = i + 100 * (split == 'heldout')
      if why == 'listed':
        yield bad(f'{split} {i}', 'its line says so')
        continue
      labels = ((), (0,), (0, 2))[i % 3]
      yield OriginalExample(f'{split} {i}', functools.partial(self._image, number, why),
                (f'  Noise number {number}, one ', f'a café, {split}')[:1 + i % 2], labels,
                (0.5, 0.25)[:len(labels)], None, i % 5 != 0, {'from': number})

  def _image(self, number, why):
    time.sleep(self.slow)
    if why == 'none':
      raise FileNotFoundError(2, os.strerror(2), 'x.jpg')
    data = image_file(number)
    return data[:len(data) // 2] if why == 'cut' else data


def toy(folder, **changes):
  Path(folder).mkdir(parents=True, exist_ok=True)
  path = Path(folder) / 'captions.json'
  path.write_text('{}')
  return Toy({'captions.json': str(path)}, **changes)


def make_job(tmp_path, folder='out', storage=None, original=None, **changes):
  original = original or toy(tmp_path / 'original', **changes)
  return Job(original, tmp_path / folder, storage or Storage(32, 1.25), 5, {})


def contents(folder):
  """What is in the files of a folder that are not hidden."""
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir())
          if not path.name.startswith('.')}


def open(source, broken: bool = False, slow: float = 0.0, share: float | None = None,
         parts: tuple[str, ...] = (), only: int = 0, word: str = 'a', table: Path | None = None):
  """The toy as a reader opens it."""
  return toy(source, broken=broken, slow=slow, left_out={f'{share} {parts} {only} {word}': 1})
