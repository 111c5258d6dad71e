"""The sample grids of training in the report, and images as attributes of <img>."""
from __future__ import annotations

import base64
import io
from typing import Any

from etils import epath
from PIL import Image

from xmc_jax.report.run_folder import Run
from xmc_jax.types import UserError

_STEPS = 16            # grids of a split that are embedded
_MAX_WIDTH = 1640      # pixels of an embedded image
_SPLITS = {'heldout': 'Held-out captions', 'train': 'Training captions'}


def grids(run: Run, several: bool) -> list[dict[str, Any]]:
  """For each split up to `_STEPS` grids, evenly spaced from the first to the newest."""
  found = []
  for split, files in run.images.items():
    count = min(_STEPS, len(files))
    chosen = [files[i * (len(files) - 1) // max(count - 1, 1)] for i in range(count)]
    title = _SPLITS.get(split, split)
    found.append({'title': f'{run.name}, {title}' if several else title, 'of': len(files),
                  'steps': [(f'{step:,}', embedded(_open(path), quality=80))
                            for step, path in chosen]})
  return found


def embedded(image: Image.Image, quality: int = 92) -> dict[str, Any]:
  """Attributes of <img> with the data inside."""
  image.thumbnail((_MAX_WIDTH, 10 * _MAX_WIDTH), Image.Resampling.LANCZOS)
  image.save(file := io.BytesIO(), 'jpeg', quality=quality)
  return {'src': f'data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}',
          'width': image.width, 'height': image.height}


def _open(path: epath.Path) -> Image.Image:
  try:
    return Image.open(io.BytesIO(path.read_bytes())).convert('RGB')
  except Exception as error:  # Pillow raises many kinds of errors for broken and for huge files
    raise UserError(f'{path}: is not a readable image, remove it') from error
