"""Semantic object accuracy of a trained run; see `evals/soa.py` for the metric."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from xmc_jax.evals import results, soa
from xmc_jax.evals.scores import Score
from xmc_jax.sampling import TextToImage, check_seed
from xmc_jax.types import UserError
from xmc_jax.utils import image_io, user_code
from xmc_jax.utils.hashing import json_sha256
from xmc_jax.utils.progress import Progress

CHUNK = 256  # images in memory


def evaluate_soa(workdir: str | os.PathLike[str], captions: str | os.PathLike[str], *,
                 out: str | os.PathLike[str] | None = None, detector: str | None = None,
                 seed: int = 0, step: int | None = None, live: bool = False,
                 text_encoder: str | None = None) -> list[dict[str, Any]]:
  """Generates the images that SOA needs; writes them for the public scorer, or scores them.

  Args:
    workdir: folder of the run.
    captions: folder of the public label_XX_name.pkl files.
    out: folder for the public scorer's layout; None: no images are written.
    detector: 'package.module:function' that returns a `soa.Detector`; None: no scores.
    seed: for the noise and for the choice of captions of the class person.
    step: the checkpoint; None: the newest.
    live: use the live weights instead of their moving average.
    text_encoder: folder of the run's text encoder, if it is not where the config says.
  Returns:
    The lines added to the run's scores.jsonl; none without a detector.
  Raises:
    UserError: neither `out` nor `detector` is given; the captions or the detector cannot be loaded;
      or as by `TextToImage.load`.
  """
  if not (out or detector):
    raise UserError('--out or --detector is missing: give --out FOLDER, '
                    '--detector MODULE:FUNCTION, or both')
  check_seed(seed)
  workdir = epath.Path(workdir).expanduser()
  detect = _load_detector(detector) if detector else None
  classes = soa.read_captions(captions)
  if detect:      # before hours of images
    results.check_writable(workdir)
    if len(classes) < 2:
      raise UserError(f'--captions={captions}: the scores need captions of at least two classes; '
                      'give the folder with all label_XX_name.pkl files')
  model = TextToImage.load(workdir, step=step, live=live, text_encoder=text_encoder)
  requests = {c.label: soa.requests(c.label, len(c.captions), seed) for c in classes}
  if out:
    soa.check_folder(out, {c.name: requests[c.label] for c in classes})
  progress = Progress('images', sum(map(len, requests.values())), quiet=jax.process_index() > 0)
  hits, done = {c.label: [] for c in classes}, 0
  generated = model.stream([c.captions[i] for c in classes for i, _ in requests[c.label]],
                           seed=seed)
  for c in classes:
    for start in range(0, len(requests[c.label]), CHUNK):
      numbers = requests[c.label][start:start + CHUNK]
      images = np.stack([image_io.pixels(next(generated)) for _ in numbers])
      if out and jax.process_index() == 0:
        soa.write_images(out, c.name, numbers, images)
      if detect:
        hits[c.label].append(soa.hits(detect, images, c.label))
      done += len(numbers)
      progress.reach(done)
  if out:
    print(f'{done:,} images of {len(classes)} classes with the {model.weights} weights of step '
          f'{model.step:,} are in {out}')
  texts = [c.captions for c in classes]
  return _record(workdir, model, hits, detector, seed, texts) if detector else []


def _record(workdir: str | os.PathLike[str], model: TextToImage, hits: dict[int, list],
            detector: str, seed: int, captions: Sequence) -> list[dict[str, Any]]:
  score = soa.soa({label: np.concatenate(parts) for label, parts in hits.items()})
  half = len(hits) // 2      # 40 of COCO's classes; the middle one of an odd number is above
  lines = results.lines(
      [Score('SOA-C', score.by_class), Score('SOA-I', score.by_image),
       Score(f'SOA-C top {len(hits) - half}', score.top),
       Score(f'SOA-C bottom {half}', score.bottom)],
      {'step': model.step, 'weights': model.weights, 'protocol': results.SOA, 'network': detector,
       'fakes': sum(len(part) for parts in hits.values() for part in parts), 'seed': seed,
       'data': model.config.data.name, 'size': model.config.model.size,
       'captions_sha256': json_sha256(captions), 'generator_sha256': model.fingerprint(),
       **results.environment()})
  print(results.table(lines))
  results.append(workdir, lines)
  return lines


def _load_detector(name: str) -> soa.Detector:
  path, _, function = name.partition(':')
  module = user_code.import_module(path, f'--detector={name}',
                                   'add its folder to PYTHONPATH, or give package.module:function')
  try:
    return getattr(module, function)()
  except (Exception, SystemExit) as error:      # the user's code may raise anything
    raise UserError(f'--detector={name}: cannot be loaded ({type(error).__name__}: {error}); give '
                    'package.module:function of a function without arguments that returns a '
                    'detector') from error
