"""Estimates the time and the disk space of a preparation before it starts."""
from __future__ import annotations

import dataclasses
import pathlib
import shutil
import time

import numpy as np

from xmc_jax.prepare.job import Job, encode_example
from xmc_jax.prepare.original import BadImage
from xmc_jax.types import UserError
from xmc_jax.utils.progress import duration

SAMPLE = 48                 # images, evenly spread over all splits
RESERVE = 1.1               # the sampled images may happen to be smaller than average
_OVERHEAD = 64              # bytes per example for index and metadata besides its captions
_HOPELESS = 0.25            # fraction of bad images in the sample; a few may be chance


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Averages over a sample: seconds of one core, and stored bytes, per example."""
  seconds: float
  bytes: float


def measure(job: Job, most_bad: float) -> Estimate:
  """Encodes a sample of the images in memory.

  Raises:
    UserError: more than a quarter of the sample, and more than `most_bad` of it, cannot be used.
  """
  counts = job.original.counts
  whole = sum(counts.values())
  places = np.unique(np.linspace(0, whole - 1, min(SAMPLE, whole)).astype(int)).tolist()
  size, bad, began = 0, [], time.perf_counter()
  for split, first in zip(counts, np.cumsum([0, *counts.values()]).tolist(), strict=False):
    for place in places:
      if first <= place < first + counts[split]:
        for example in job.original.examples(split, place - first, place - first + 1):
          try:
            size += len(encode_example(example, job.storage).data) + _OVERHEAD
            size += len(str(example.captions).encode())
          except BadImage as error:
            bad.append((example.name, str(error)))
  seconds = time.perf_counter() - began
  if len(bad) > max(_HOPELESS, most_bad) * len(places):
    raise UserError(f'--source: {len(bad)} of {len(places)} images, sampled evenly from '
                    f'{job.original.name}, cannot be used: {some(bad)}; give the right folder, or '
                    'allow more with --most_bad')
  good = len(places) - len(bad)
  return Estimate(seconds / len(places), size / max(good, 1))


def report(job: Job, left: int, workers: int, estimate: Estimate) -> None:
  """Prints how much work and disk space the remaining `left` examples need.

  Raises:
    UserError: the disk has not enough free space.
  """
  need, free = left * estimate.bytes * RESERVE, free_bytes(job.folder)
  counts = ' + '.join(f'{count:,}' for count in job.original.counts.values())
  whole = sum(job.original.counts.values())
  here = '' if left == whole else f', {left:,} of them are left to do here'
  cores = 'core' if workers == 1 else 'cores'
  print(f'{job.original.name}: {counts} images{here}, about {gigabytes(need)}, {gigabytes(free)} '
        f'are free; about {duration(left * estimate.seconds / workers)} on {workers} {cores}',
        flush=True)
  if need > free:
    raise UserError(f'{job.folder} needs about {gigabytes(need)} and its disk has '
                    f'{gigabytes(free)}; make room, choose another disk with --out=FOLDER, or '
                    'smaller images with --size or --quality')


def free_bytes(folder: pathlib.Path) -> int:
  """Returns the free bytes of the disk on which a folder is, or will be."""
  folder = folder.absolute()
  return shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free


def gigabytes(count: float) -> str:
  """Formats a number of bytes, such as '2.9 GB' or '340 MB'."""
  return f'{count / 1e9:.1f} GB' if count >= 1e9 else f'{max(count / 1e6, 0.1):.3g} MB'


def some(bad: list[tuple[str, str]], number: int = 3) -> str:
  """Formats the first few of (name, reason) of bad images."""
  text = '; '.join(f'{name} ({why})' for name, why in bad[:number])
  return text + (f'; and {len(bad) - number:,} more' if len(bad) > number else '')
