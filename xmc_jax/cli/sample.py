"""`xmc sample`: images of one's own captions."""
from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

import jax
import numpy as np

from xmc_jax.sampling import TextToImage
from xmc_jax.types import UserError
from xmc_jax.utils import image_io


def sample(workdir: str | pathlib.Path, captions: Sequence[str], *, each: int = 4, seed: int = 0,
           truncation: float | None = None, live: bool = False, step: int | None = None,
           out: str | pathlib.Path | None = None,
           text_encoder: str | pathlib.Path | None = None) -> np.ndarray:
  """Draws `each` images of every caption and writes them to `out`: a grid and single files.

  Returns images float32 [captions, each, h, w, 3] in [0, 1]. UserError for captions that the
  text encoder cannot read, and as `TextToImage.load`.
  """
  out = pathlib.Path(out) if out else pathlib.Path(workdir) / 'samples'
  if not captions:
    raise UserError('nothing to draw: give --caption "..." or --captions FILE')
  model = TextToImage.load(workdir, step=step, live=live, text_encoder=text_encoder)
  model.tokenizer.check_captions(captions, model.config.text.script)
  repeated = [caption for caption in captions for _ in range(each)]
  images = model.generate(repeated, seed=seed, truncation=truncation)
  if jax.process_index() == 0:
    _write(out, images, repeated, each)
  print(f'{len(images)} images of {len(captions)} captions with the {model.weights} weights of '
        f'step {model.step:,}: {out / "grid.png"} and single files beside it')
  return images.reshape(len(captions), each, *images.shape[1:])


def _write(out: pathlib.Path, images: np.ndarray, captions: list[str], each: int) -> None:
  try:
    out.mkdir(parents=True, exist_ok=True)
    image_io.save_png(out / 'grid.png', image_io.grid(images, captions, columns=min(8, each)))
    for i, (image, caption) in enumerate(zip(images, captions)):
      name = re.sub(r'[^a-z0-9]+', '_', caption.lower()).strip('_')[:60]
      image_io.save_png(out / f'{i // each:03d}_{name}_{i % each}.png',
                        np.round(image * 255).astype(np.uint8))
  except OSError as error:
    raise UserError(f'--out: cannot write to {out} ({error.strerror or error})') from error
