"""Images that runs draw for the report, each beside a real one and the nearest training image."""
from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from xmc_jax.data import source as sources
from xmc_jax.evals.duplicates import nearest_rows
from xmc_jax.evals.image_sets import SplitImages
from xmc_jax.evaluator import choose_captions
from xmc_jax.report import pictures
from xmc_jax.report.run_folder import Run
from xmc_jax.sampling import TextToImage
from xmc_jax.types import UserError
from xmc_jax.utils import image_io

COUNT = 12                # held-out captions
_MOST = 8000              # training images that are looked at: some seconds
_SIDE = 16                # pixels of the images that are compared
_BLOCK = 500              # images that are read at a time


def cards(runs: Sequence[Run], own: Sequence[str] = (), count: int = COUNT,
          data: str | None = None, text_encoder: str | None = None
          ) -> tuple[list[dict[str, Any]], list[str]]:
  """What the template shows of each caption, and sentences on the images and on what is missing.

  The captions are `own`, then `count` of the held-out ones of the first run that can draw. A run
  that cannot draw, and data that are not here, are told in a sentence.

  Args:
    data: folder of the prepared data, if it is not where the config of a run says.
    text_encoder: folder of the text encoder, if it is not where the config of a run says.
  Raises:
    UserError: a caption of `own` is not one that the text encoder of a run can read.
  """
  if not own and not count:
    return [], []
  models, notes = _models(runs, data, text_encoder)
  if not models:
    return [], notes
  for model in models.values():
    model.tokenizer.check_captions(own, model.config.text.script)
  captions, reals, note = _examples(next(iter(models.values())), own, count, data)
  notes.append(note)
  if not captions:
    return [], notes
  training = functools.lru_cache(1)(lambda name: _training(models[name], data))
  drawn, near, last = {}, {}, []
  for name, model in models.items():
    try:
      drawn[name] = image_io.pixels(model.generate(captions))
      notes.append(f'{name} draws with the {model.weights} weights of step {model.step:,}.')
    except UserError as error:
      notes.append(f'{name} draws no images: {error}.')
      continue
    try:
      near[name], note = _nearest(drawn[name], *training(_first_with_same_data(models, name)))
    except (UserError, OSError) as error:
      note = f'There are no nearest training images: {error}.'
    last.append(note)
  found = [{'caption': caption, 'images': [
      *(_image(name if len(runs) > 1 else 'drawn', caption, drawn[name][i]) for name in drawn),
      *([_image('real', f'Real image: {caption}', real)] if real is not None else []),
      *(_image(f'nearest to {name}' if len(runs) > 1 else 'nearest',
               f'Training image: {near[name][i][1]}', near[name][i][0]) for name in near)]}
           for i, (caption, real) in enumerate(zip(captions, reals))]
  return found if drawn else [], [note for note in dict.fromkeys(notes + last) if note]


def _models(runs: Sequence[Run], data: str | None, text_encoder: str | None
            ) -> tuple[dict[str, TextToImage], list[str]]:
  """{name: generator} of the runs that have one, and a sentence on each of the others."""
  models, notes = {}, []
  for run in runs:
    if not (run.folder / 'checkpoints').is_dir():
      notes.append(f'{run.name} draws no images: it has no checkpoints.')
      continue
    try:
      models[run.name] = TextToImage.load(run.folder, data=data, text_encoder=text_encoder)
    except UserError as error:
      notes.append(f'{run.name} draws no images: {error}.')
  return models, notes


def _split(model: TextToImage, split: str, data: str | None) -> sources.Source:
  config = model.config
  options = config.data.options.to_dict() | ({'folder': data} if data else {})
  return sources.load(config.data.name, split, config.model.size, **options)


def _examples(model: TextToImage, own: Sequence[str], count: int, data: str | None
              ) -> tuple[list[str], list[np.ndarray | None], str]:
  """Captions, the image that each belongs to, if there is one, and a sentence on these images.

  Of the held-out captions they are the first that an evaluation draws.
  """
  captions, reals = list(own), [None] * len(own)
  if not count:
    return captions, reals, ''
  try:
    source = _split(model, 'heldout', data)
    indices, which = choose_captions(source, min(count, len(source)), seed=0)
    captions += [source.captions(int(i))[k] for i, k in zip(indices, which)]
    reals += [source.image(int(i)) for i in indices]
  except (UserError, OSError) as error:
    return list(own), [None] * len(own), f'There are no held-out captions and real images: {error}.'
  return captions, reals, (f'Real is the held-out image of {model.config.data.name} that the '
                           'caption belongs to.')


def _first_with_same_data(models: Mapping[str, TextToImage], name: str) -> str:
  """The first model with the training images of this one, so that they are read once."""
  of = lambda model: (model.config.data.to_dict(), model.config.model.size)
  return next(other for other in models if of(models[other]) == of(models[name]))


def _training(model: TextToImage, data: str | None
              ) -> tuple[sources.Source, np.ndarray, np.ndarray]:
  """The training split; the indices of up to `_MOST` images of it; and the rows of these."""
  source = _split(model, 'train', data)
  images = SplitImages(source, 'train')
  indices = np.linspace(0, len(source) - 1, min(_MOST, len(source))).astype(int)
  rows = [_rows(images.read(indices[i:i + _BLOCK].tolist()))
          for i in range(0, len(indices), _BLOCK)]
  return source, indices, np.concatenate(rows)


def _rows(images: np.ndarray) -> np.ndarray:
  """uint8 [n, h, w, 3] as small images in rows, float32 [n, d]."""
  small = [np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX))
           for image in images]
  return np.stack(small).reshape(len(images), -1).astype(np.float32)


def _nearest(drawn: np.ndarray, source: sources.Source, indices: np.ndarray, rows: np.ndarray
             ) -> tuple[list[tuple[np.ndarray, str]], str]:
  """The training image nearest to each drawn one, with its caption; and a sentence on them.

  The mean training image is subtracted, or a white background would make all images alike.
  """
  _, found = nearest_rows(_rows(drawn) - rows.mean(axis=0), rows - rows.mean(axis=0))
  of = f'all {len(source):,}' if len(indices) == len(source) else (
      f'{len(indices):,} of the {len(source):,}')
  return ([(source.image(i), source.captions(i)[0]) for i in indices[found].tolist()],
          f'Nearest is the one of {of} training images that is most like the drawn image at '
          f'{_SIDE} × {_SIDE} pixels; xmc evaluate --metrics duplicates compares with all of them '
          'by a network.')


def _image(label: str, alt: str, image: np.ndarray) -> dict[str, Any]:
  return {'label': label, 'alt': alt, **pictures.embedded(Image.fromarray(image))}
