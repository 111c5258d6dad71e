"""The detector: which objects an image of `emoji_scenes` shows, and where.

A small convolutional network for 64 x 64 images. As in Zhou et al., "Objects as Points"
(arXiv 1904.07850), it predicts a heatmap of object centers, and a class and a box at each center.
Unlike theirs, there is one heatmap for all classes beside a softmax over the classes, and the
heatmap is trained with cross-entropy on Gaussian targets instead of a focal loss.

`tools/train_detector.py` trained it on real images of the train split only, so it is independent of
every generator; docs/evaluation.md tells how well it does.

  module, variables = detector.load(detector.find('emoji_scenes'))
  objects = detector.peaks(module.apply(variables, images))
"""
from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from xmc_jax.types import Array
from xmc_jax.weight_files.own_weights import OwnWeights

SIDE = 64  # pixels per side
CELLS = 16  # cells per side of the output maps
MAX_OBJECTS = 8  # per image
NAMES = ('emoji_scenes',)


class DetectionMaps(NamedTuple):
  """Predictions for each cell of an image.

  center  float32 [b, 16, 16], logits: is this the center of an object?
  kind    float32 [b, 16, 16, k], logits of the kinds
  box     float32 [b, 16, 16, 4]: x0, y0, x1, y1 as fractions of the side; x to the right, y down
  """
  center: Array
  kind: Array
  box: Array


class DetectedObjects(NamedTuple):
  """The objects of each image in descending order of score, padded to m entries.

  kind   int32 [b, m]
  score  float32 [b, m] in [0, 1], probability of a center times that of the kind; 0 for padding
  box    float32 [b, m, 4], as in `DetectionMaps`
  """
  kind: Array
  score: Array
  box: Array


class SceneDetector(nn.Module):
  """`widths` are the channels at 1/2, 1/4, 1/8 and 1/16 of the side, `head` those of the maps."""
  kinds: int = 114
  widths: tuple[int, ...] = (24, 48, 96, 144)
  head: int = 80

  @nn.compact
  def __call__(self, images: Array) -> DetectionMaps:
    """Images [b, 64, 64, 3] in [0, 1] to float32 maps."""
    x = nn.Conv(self.widths[0], (4, 4), (2, 2))(2 * images - 1)
    stages = []
    for width in self.widths[1:]:
      x = nn.Conv(width, (3, 3), (2, 2))(_act(x))
      x += nn.Conv(width, (3, 3))(_act(x))
      stages.append(x)
    for finer, width in zip(stages[-2::-1], (self.widths[2], self.head), strict=True):
      x = nn.Conv(width, (1, 1))(_act(x)).repeat(2, 1).repeat(2, 2)
      x += nn.Conv(width, (1, 1))(_act(finer))
      x += nn.Conv(width, (3, 3))(_act(x))
    x = _act(x)
    center = nn.Dense(1, bias_init=nn.initializers.constant(-4.0), name='center')(x)
    return DetectionMaps(center[..., 0], nn.Dense(self.kinds, name='kind')(x),
                         _boxes(nn.Dense(4, name='box')(x)))


def _act(x: Array) -> Array:
  return nn.silu(nn.GroupNorm(8)(x))


def cell_centers() -> Array:
  """x and y of the cell centers as fractions of the side, float32 [16, 16, 2]."""
  at = (jnp.arange(CELLS) + 0.5) / CELLS
  return jnp.stack(jnp.meshgrid(at, at), -1)


def _boxes(raw: Array) -> Array:
  """Four numbers per cell (center offset in cells, log width, log height) to boxes."""
  middle = cell_centers()[None] + raw[..., :2] / CELLS
  half = jnp.exp(jnp.clip(raw[..., 2:], -3, 3)) / 8  # a quarter of the side before training
  return jnp.concatenate([middle - half, middle + half], -1)


def peaks(maps: DetectionMaps) -> DetectedObjects:
  """The objects of each image: cells whose center logit is the maximum of their 3 x 3 window."""
  b, cells, _, kinds = maps.kind.shape
  highest = nn.max_pool(maps.center[..., None], (3, 3), padding='SAME')[..., 0]
  likely = jax.nn.softmax(maps.kind).max(-1) * jax.nn.sigmoid(maps.center)
  score, at = jax.lax.top_k(jnp.where(maps.center >= highest, likely, 0).reshape(b, -1),
                            MAX_OBJECTS)
  take = lambda x: jnp.take_along_axis(x.reshape(b, cells * cells, -1), at[..., None], 1)
  return DetectedObjects(take(maps.kind.argmax(-1))[..., 0], score, take(maps.box))


_FILES = OwnWeights('detector', NAMES, SceneDetector,
                    (jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32),))
path_of, find, load, save = _FILES.path_of, _FILES.find, _FILES.load, _FILES.save
