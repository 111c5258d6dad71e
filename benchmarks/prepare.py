"""Throughput and output size of `xmc prepare` on this machine; prints one JSON line per case.

  python benchmarks/prepare.py
  python benchmarks/prepare.py --codecs webp --margins 1.1875 --images 500

Originals are COCO-like 640 x 480 JPEGs of about 150 kB from `input.synthetic_image`, with the
spectrum and the bytes per pixel of photographs, at a quality that gives about COCO's file size.
They
go through a whole preparation except its reader: decoded, resized, encoded, written to a shard with
five captions each, hashed, counted, words collected. Times are CPU times, user and system, so they
are comparable on a machine with other load. The originals are in memory, so disk reads are
excluded.

  images_per_second_per_core  of one process
  original_bytes, bytes       per image, before and after, with captions and index
  words_seconds               to tokenize a caption, with WordPiece and with whole words
  coco                        extrapolation to 123,287 images: minutes on 16 cores, GB
"""
from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import json
import pathlib
import resource
import tempfile

import input as input_benchmark
import numpy as np
import tokenizers

from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import bert
from xmc_jax.prepare import finishing
from xmc_jax.prepare.images import Storage
from xmc_jax.prepare.job import Job
from xmc_jax.prepare.original import OriginalExample

COCO, CORES = 123_287, 16
KINDS, QUALITY = 24, 96     # distinct images; 96 gives about COCO's average file


def captions(number: int) -> tuple[str, ...]:
  random = np.random.default_rng(number)
  return tuple(' '.join(random.choice(input_benchmark.WORDS, random.integers(8, 14)))
               for _ in range(5))


@dataclasses.dataclass(frozen=True)
class Original:
  """Implements `xmc_jax.prepare.original.Original`."""
  images: tuple[bytes, ...]
  counts: dict[str, int]
  name: str = 'coco-like'
  class_names: tuple[str, ...] = ()
  several_labels: bool = True
  files: dict[str, str] = dataclasses.field(default_factory=dict)
  left_out: dict[str, int] = dataclasses.field(default_factory=dict)
  vocabulary: tuple[str, ...] | None = None

  def examples(self, split, start, stop):
    for i in range(start, stop):
      image = functools.partial(self.images.__getitem__, i % len(self.images))
      yield OriginalExample(f'{split} {i}', image, captions(i))


def make_originals() -> tuple[bytes, ...]:
  random, files = np.random.default_rng(0), []
  for _ in range(KINDS):
    file = io.BytesIO()
    input_benchmark.synthetic_image(random).save(file, 'JPEG', quality=QUALITY)
    files.append(file.getvalue())
  return tuple(files)


def run(original: Original, storage: Storage) -> dict:
  """Measures one case: prepares the set in this process."""
  with tempfile.TemporaryDirectory() as folder:
    job = Job(original, pathlib.Path(folder), storage, 256, {})
    began = processor()
    for split, number in job.shards.items():
      for i in range(number):
        job.write(split, i, lambda: None)
    manifest = finishing.finish(job, most_bad=0)
    seconds = processor() - began
  images = sum(original.counts.values())
  stored = sum(s['bytes'] for shards in manifest['splits'].values() for s in shards) / images
  rate = images / seconds
  return {'size': storage.size, 'margin': storage.margin, 'codec': storage.codec,
          'quality': storage.quality, 'images': images,
          'images_per_second_per_core': round(rate, 1),
          'original_bytes': round(np.mean([len(data) for data in original.images])),
          'bytes': round(stored),
          'coco': {'minutes': round(COCO / rate / CORES / 60, 1), 'gigabytes':
                   round(COCO * stored / 1e9, 2)},
          'machine': input_benchmark.machine()}


def words(original: Original, encoder: str, rows: int = 64, times: int = 100) -> dict:
  """Measures the seconds to tokenize a caption, in batches of `rows` as in the input pipeline."""
  chosen = [captions(i)[i % 5] for i in range(rows)]
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, finishing.TOKENIZER)
    vocabulary = finishing.vocabulary
    vocabulary.write(path, vocabulary.collect(chosen))
    plain = tokenizers.Tokenizer.from_file(str(path))
  pieces = Tokenizer(bert.find(encoder), 17)
  found = {}
  for name, encode in (('wordpiece', pieces.encode), ('word_level', plain.encode_batch)):
    encode(chosen)
    began = processor()
    for _ in range(times):
      encode(chosen)
    found[name] = round((processor() - began) / times / rows, 8)
  return {'words_seconds': found, 'machine': input_benchmark.machine()}


def processor() -> float:
  used = resource.getrusage(resource.RUSAGE_SELF)
  return used.ru_utime + used.ru_stime


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  listed = lambda kind: lambda text: [kind(word) for word in text.split(',')]
  parser.add_argument('--size', type=int, default=256)
  parser.add_argument('--codecs', type=listed(str), default=['jpeg', 'webp', 'png'])
  parser.add_argument('--margins', type=listed(float), default=[1.0, 76 / 64])
  parser.add_argument('--quality', type=int, default=90)
  parser.add_argument('--images', type=int, default=600)
  parser.add_argument('--encoder', default='all-MiniLM-L6-v2', help='whose tokenizer is used')
  args = parser.parse_args()
  held = args.images // 3
  original = Original(make_originals(), {'train': args.images - held, 'heldout': held})
  for codec in args.codecs:
    for margin in args.margins:
      print(json.dumps(run(original, Storage(args.size, margin, codec, args.quality))), flush=True)
  print(json.dumps(words(original, args.encoder)), flush=True)


if __name__ == '__main__':
  main()
