"""Time to sample partners with matching labels, for COCO-like labels; one JSON line per rule.

  python benchmarks/partners.py
  python benchmarks/partners.py --images 500000 --rows 4096

The labels are synthetic, 80 classes in 12 subjects: "person" is in more than half of the images,
the frequency of the other classes falls as a power law, most classes of an image belong to its
subject, and one image in a hundred has none. `microseconds_a_row` is wall time of one thread per
example.
"""
import argparse
import json
import time

import numpy as np

from xmc_jax.data.partners import Labels, Partners
from xmc_jax.types import LABEL_RULES

CLASSES, SUBJECTS = 80, 12


def make_labels(images: int, seed: int = 0) -> Labels:
  random = np.random.default_rng(seed)
  subject_of_class = random.integers(0, SUBJECTS, CLASSES)
  subject = random.integers(0, SUBJECTS, images)
  share = 0.16 / np.arange(1, CLASSES + 1) ** 0.5
  chance = np.where(subject_of_class == subject[:, None], 6 * share, 0.3 * share)
  chance[:, 0] = 0.54
  present = random.random(chance.shape) < chance
  bare = np.flatnonzero(~present.any(1))
  present[bare, random.integers(0, CLASSES, len(bare))] = True
  present[random.random(images) < 0.01] = False
  image, kind = np.nonzero(present)
  return Labels(images, image, kind, random.random(len(kind)).astype(np.float32) + 1e-3)


def measure(labels: Labels, rule: str, rows: int, steps: int) -> dict:
  began = time.perf_counter()
  partners = Partners(labels, rule)
  ready = time.perf_counter()
  anchors = np.random.default_rng(1).integers(0, labels.images, (steps, rows))
  partners.sample(anchors[0], 0, 0)
  first = time.perf_counter()
  for step in range(steps):
    partners.sample(anchors[step], 0, step)
  seconds = time.perf_counter() - first
  return {'rule': rule, 'images': labels.images, 'rows': rows,
          'labels_a_image': round(len(labels.image) / labels.images, 2),
          'microseconds_a_row': round(seconds / anchors.size * 1e6, 2),
          'seconds_to_prepare': round(ready - began, 2),
          'mean_weight': round(partners.mean_weight(), 1), 'alone': round(partners.alone(), 4)}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--images', type=int, default=82_783)
  parser.add_argument('--rows', type=int, default=512, help='of a step, over all rounds')
  parser.add_argument('--steps', type=int, default=200)
  args = parser.parse_args()
  labels = make_labels(args.images)
  for rule in LABEL_RULES:
    print(json.dumps(measure(labels, rule, args.rows, args.steps)), flush=True)


if __name__ == '__main__':
  main()
