"""Throughput of the input pipeline on this machine; prints one JSON line per case.

  python benchmarks/input.py
  python benchmarks/input.py --data jpeg --sizes 256 --storage square,margin --cores 2 --seconds 20
  python benchmarks/input.py --partners overlap

Every case runs in its own process, pinned to --cores cores, through the training pipeline: captions
chosen and tokenized to 17 word pieces, images decoded, cropped and mirrored.
`examples_per_second_per_core` divides by the CPU time of the process, user and system, all threads,
so it is comparable on a machine with other load; `examples_per_second` divides by wall time. The
files are in the page cache. With --partners an example has two images with captions and is still
counted once.

`jpeg` is a prepared folder of COCO-like images (see `synthetic_image`), quality 90, 4:3, stored as
  square    S x S
  short     shorter side S
  margin    shorter side S * 76 / 64, as the AttnGAN family stores images for random crops
  original  640 x 480, reduced to S after decoding
"""
import argparse
import concurrent.futures
import io
import json
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time

import numpy as np
import PIL
from PIL import Image, ImageDraw, features

from xmc_jax.data import partners, pipeline, records
from xmc_jax.data import source as sources
from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import bert
from xmc_jax.types import LABEL_RULES

ROUNDS, LENGTH = 2, 17
QUALITY = 90
CLASSES = 80   # an image shows 1 to 5 of them
IMAGES, KINDS = 2048, 32   # in the folder; distinct ones
# {name: function from S to stored width, height and side of the crop}
STORAGE = {'square': lambda s: (s, s, s), 'short': lambda s: (round(s * 4 / 3), s, s),
           'margin': lambda s: (round(s * 19 / 12), s * 76 // 64, s),
           'original': lambda s: (640, 480, 480)}
WORDS = ('a man riding wave on top of surfboard the two dogs playing with frisbee in green field '
         'red double decker bus parked next to building kitchen stove refrigerator and wooden '
         'cabinets woman holding an umbrella while walking down wet street').split()


def synthetic_image(random: np.random.Generator, width: int = 640,
                    height: int = 480) -> Image.Image:
  """Returns a COCO-like image: textures with the spectrum of photographs, in shapes with edges.

  The exponent of the spectrum is chosen so that at quality 90 the image takes as many bytes per
  pixel as five photographs of scikit-image, within a tenth, from 128 x 128 (0.45) to 640 x 480
  (0.29).
  """
  ground, figure = (_texture(random, width, height) for _ in range(2))
  mask = Image.new('L', (width, height))
  pencil = ImageDraw.Draw(mask)
  for _ in range(12):
    x, y = random.random(2) * (width, height)
    w, h = (0.02 + 0.2 * random.random(2)) * (width, height)
    pencil.ellipse((x - w, y - h, x + w, y + h), fill=int(random.integers(2)) * 255)
  return Image.composite(ground, figure, mask)


def _texture(random: np.random.Generator, width: int, height: int) -> Image.Image:
  """Returns noise with the spectrum f ** -1.45, stronger in lightness than in color."""
  fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
  fall = 1 / np.maximum(np.hypot(fy, fx), 1 / width) ** 1.45
  noise = np.fft.irfft2(np.fft.rfft2(random.standard_normal((3, height, width))) * fall)
  noise /= noise.std((1, 2), keepdims=True)
  light, red, blue = noise * np.array([55, 12, 12])[:, None, None] + 40 * (random.random() - 0.5)
  pixels = 120 + np.stack([light + red, light - (red + blue) / 3, light + blue], -1)
  return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write_folder(folder: str, size: int, storage: str) -> None:
  random = np.random.default_rng(0)
  width, height, side = STORAGE[storage](size)
  info = records.DatasetInfo('coco-like', side, tuple(map(str, range(CLASSES))))
  files = []
  for _ in range(KINDS):
    file, image = io.BytesIO(), synthetic_image(random)
    image.resize((width, height), Image.Resampling.LANCZOS).save(file, 'JPEG', quality=QUALITY)
    files.append(file.getvalue())
  caption = lambda: ' '.join(random.choice(WORDS, random.integers(8, 14)))
  labels = lambda: tuple(sorted(random.choice(CLASSES, random.integers(1, 6), False).tolist()))
  some = (records.Example(files[i % KINDS], tuple(caption() for _ in range(5)), labels())
          for i in range(IMAGES))
  records.write_shard(folder, info, 'train', 0, some)
  records.finish(folder, info, {'train': 1})


def run(data: str, size: int, storage: str | None, loader: str, args) -> dict:
  """Measures one case; runs in its own process."""
  if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.cores])
  with tempfile.TemporaryDirectory() as folder:
    options, stored = {}, None
    if data == 'jpeg':
      write_folder(folder, size, storage)
      options = {'folder': folder}
      stored = round(os.path.getsize(os.path.join(folder, 'train-00000.rec')) / IMAGES)
    source = sources.load('records' if data == 'jpeg' else data, 'train', size, **options)
    tokenizer = Tokenizer(bert.find(args.encoder), LENGTH)
    with pipeline.batches(source, tokenizer, seed=0, start=0, rounds=ROUNDS, rows=args.rows,
                          loader=loader, partners=partners.find(source, args.partners)) as batches:
      examples, seconds, processor, batch = measure(batches, args.seconds)
  return {'data': data, 'size': size, 'storage': storage, 'loader': loader, 'cores': args.cores,
          'rows': args.rows, 'partners': args.partners, 'examples': examples,
          'examples_per_second_per_core': round(examples / processor, 1),
          'examples_per_second': round(examples / seconds, 1),
          'bytes_per_example': stored,
          'batch_bytes': sum(leaf.nbytes for leaf in batch.values()),
          'peak_memory_bytes': peak_memory(),
          'machine': machine()}


def measure(batches, least: float) -> tuple[int, float, float, dict]:
  """Returns the number of examples, wall time, CPU time, and a batch."""
  for _ in range(6):   # batches prefetched before, and warm-up
    batch = next(batches)
  processor, began, examples = _processor(), time.perf_counter(), 0
  while (seconds := time.perf_counter() - began) < least:
    batch = next(batches)
    examples += batch['tokens'].shape[0] * batch['tokens'].shape[1]
  return examples, seconds, _processor() - processor, batch


def _processor() -> float:
  used = resource.getrusage(resource.RUSAGE_SELF)
  return used.ru_utime + used.ru_stime


def peak_memory() -> int:
  unit = 1 if sys.platform == 'darwin' else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def machine() -> dict:
  names = [line.partition(':')[2].strip() for line in _lines('/proc/cpuinfo')
           if line.startswith('model name')]
  return {'processor': names[0] if names else platform.processor(), 'cores': os.cpu_count(),
          'python': platform.python_version(), 'numpy': np.__version__, 'pillow': PIL.__version__,
          'libjpeg_turbo': features.version_feature('libjpeg_turbo'),
          'tensorflow': getattr(sys.modules.get('tensorflow'), '__version__', None)}


def _lines(path: str) -> list[str]:
  if not os.path.exists(path):
    return []
  with open(path) as file:
    return file.read().splitlines()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  listed = lambda text: text.split(',')
  parser.add_argument('--data', type=listed, default=['emoji', 'emoji_scenes', 'jpeg'])
  parser.add_argument('--sizes', type=lambda text: [int(size) for size in listed(text)],
                      default=[128, 256])
  parser.add_argument('--storage', type=listed, default=list(STORAGE), help='of the data set jpeg')
  parser.add_argument('--loaders', type=listed, default=list(pipeline.LOADERS))
  parser.add_argument('--partners', default='', choices=('', *LABEL_RULES))
  parser.add_argument('--rows', type=int, default=64, help=f'of a round; a step has {ROUNDS}')
  parser.add_argument('--cores', type=int, default=1)
  parser.add_argument('--seconds', type=float, default=10, help='of every case')
  parser.add_argument('--encoder', default='all-MiniLM-L6-v2', help='whose tokenizer is used')
  args = parser.parse_args()
  spawn = multiprocessing.get_context('spawn')
  for data in args.data:
    for size in args.sizes:
      for storage in args.storage if data == 'jpeg' else [None]:
        for loader in args.loaders:
          with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
            print(json.dumps(pool.submit(run, data, size, storage, loader, args).result()),
                  flush=True)


if __name__ == '__main__':
  main()
