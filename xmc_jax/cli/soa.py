"""`xmc evaluate --workdir RUN --soa CAPTIONS`: semantic object accuracy, see `evals/soa.py`."""
from __future__ import annotations

import importlib
import os
from typing import Any

import jax
import numpy as np

from xmc_jax.evals import results, soa
from xmc_jax.evals.scores import Score
from xmc_jax.sampling import TextToImage
from xmc_jax.types import UserError
from xmc_jax.utils.progress import Progress

AT_ONCE = 256  # images in memory


def object_accuracy(workdir: str | os.PathLike[str], captions: str, *, out: str | None = None,
                    detector: str | None = None, seed: int = 0, step: int | None = None,
                    live: bool = False,
                    text_encoder: str | None = None) -> list[dict[str, Any]]:
  """Draws what the public caption files ask for; writes it for the public scorer, or scores it.

  Args:
    captions: the folder of label_XX_name.pkl files.
    out: where the public scorer will look; None: nothing is written.
    detector: 'package.module:function', which returns a `soa.Detector`; None: no score here.
    seed: of the noise and of the choice of captions of persons.
    text_encoder: as of `evaluate`.
  Returns:
    The lines added to the run's scores.jsonl; none without a detector.
  Raises:
    UserError: neither `out` nor `detector`; captions or a detector that cannot be read; and as
      `TextToImage.load`.
  """
  if not (out or detector):
    raise UserError('--soa needs --out FOLDER, --detector MODULE:FUNCTION, or both')
  find = _detector(detector) if detector else None
  classes = soa.read_captions(captions)
  model = TextToImage.load(workdir, step=step, live=live, text_encoder=text_encoder)
  wanted = {c.label: soa.requests(c.label, len(c.captions), seed) for c in classes}
  progress = Progress('images', sum(map(len, wanted.values())), quiet=jax.process_index() > 0)
  found, done = {c.label: [] for c in classes}, 0
  for c in classes:
    for start in range(0, len(wanted[c.label]), AT_ONCE):
      numbers = wanted[c.label][start:start + AT_ONCE]
      # Another seed for every batch of every class, so that no noise comes twice.
      drawn = model.generate([c.captions[i] for i, _ in numbers],
                          seed=int(np.random.SeedSequence((seed, c.label, start))
                                   .generate_state(1)[0]))
      images = np.round(np.clip(drawn, 0, 1) * 255).astype(np.uint8)
      if out and jax.process_index() == 0:
        soa.write_images(out, c.name, numbers, images)
      if find:
        found[c.label].append(soa.hits(find, images, c.label))
      done += len(numbers)
      progress.reach(done)
  if out:
    print(f'{done:,} images of {len(classes)} classes with the {model.weights} weights of step '
          f'{model.step:,} are in {out}')
  return _scores(workdir, model, found, detector, seed) if detector else []


def _scores(workdir, model: TextToImage, found: dict[int, list], detector: str,
            seed: int) -> list[dict[str, Any]]:
  score = soa.soa({label: np.concatenate(hits) for label, hits in found.items()})
  lines = results.lines(
      [Score('SOA-C', score.by_class), Score('SOA-I', score.by_image),
       Score('SOA-C top 40', score.top), Score('SOA-C bottom 40', score.bottom)],
      {'step': model.step, 'weights': model.weights, 'protocol': 'soa', 'network': detector,
       'fakes': sum(len(h) for hits in found.values() for h in hits), 'seed': seed,
       'data': model.config.data.name, **results.environment()})
  results.append(workdir, lines)
  print(results.table(lines))
  return lines


def _detector(name: str) -> soa.Detector:
  module, _, function = name.partition(':')
  try:
    return getattr(importlib.import_module(module), function)()
  except (ImportError, AttributeError, TypeError, ValueError) as error:
    raise UserError(f'--detector={name}: it cannot be made ({error}); give package.module:function '
                    'of a function without arguments that returns a detector') from error
