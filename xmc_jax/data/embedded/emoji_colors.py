"""Names of the colors of an emoji."""
from __future__ import annotations

import re

import numpy as np
from PIL import Image

COVER = 0.35  # a color is named if it covers at least this fraction of the opaque pixels
COVER_GREY = 0.7  # higher, since shading and outlines are grey too
# Names of emoji that already contain a color.
NAMED = re.compile(r'\b(black|white|grey|red|orange|yellow|green|blue|purple|pink|brown|blond)\b')


def colors(image: Image.Image) -> list[str]:
  """Returns names of colors that cover at least `COVER` of the opaque pixels, largest first."""
  pixels = np.asarray(image).reshape(-1, 4)
  pixels = pixels[pixels[:, 3] > 200][:, :3]
  if not len(pixels):
    return []
  hsv = np.asarray(Image.fromarray(pixels[None]).convert('HSV'))[0].astype(np.float32)
  hue, saturation, value = hsv[:, 0] * (360 / 255), hsv[:, 1] / 255, hsv[:, 2] / 255
  names = np.select(
      [value < 0.25,
       (saturation < 0.15) & (value > 0.88),
       saturation < 0.18,
       ((hue < 45) | (hue > 340)) & (value < 0.5) | (hue > 12) & (hue < 45) & (value < 0.72),
       ((hue > 300) | (hue < 12)) & (saturation < 0.55) & (value > 0.8),
       hue < 14, hue < 39, hue < 66, hue < 165, hue < 255, hue < 295, hue < 340],
      ['black', 'white', 'grey', 'brown', 'pink',
       'red', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink'], 'red')
  found, counts = np.unique(names, return_counts=True)
  share = dict(zip(found.tolist(), (counts / len(pixels)).tolist(), strict=True))
  return [name for name in sorted(share, key=share.get, reverse=True)
          if share[name] >= (COVER_GREY if name == 'grey' else COVER)]
