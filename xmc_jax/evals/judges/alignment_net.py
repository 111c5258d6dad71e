"""The judge: images and captions in one space, to ask whether an image shows its caption.

A small convolutional network for images of 64 x 64 and a linear map of frozen MiniLM sentence
vectors, trained together by `tools/train_judge.py` on real images only, so that it is independent
of every generator and of the encoders in a generator's losses. The weights of one judge for each
embedded data set come with the project; they know the train split of that set and no other image.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from xmc_jax.types import Array
from xmc_jax.utils.arrays import unit
from xmc_jax.weight_files.own_weights import OwnWeights

SIDE = 64  # pixels of a side
SENTENCE = 384  # features of a sentence vector of MiniLM
NAMES = ('emoji', 'emoji_scenes')


class Judge(nn.Module):
  """Codes of unit length; the product of an image's and a caption's says how well they fit.

  `widths` are the channels at 1/2, 1/4, 1/8 and 1/16 of the side, `size` the length of a code.
  """

  widths: tuple[int, ...] = (24, 48, 96, 144)
  size: int = 128

  def setup(self):
    self.backbone = Backbone(self.widths)
    self.from_backbone = nn.Dense(self.size)
    self.from_sentence = nn.Dense(self.size, use_bias=False)
    self.log_scale = self.param('log_scale', nn.initializers.constant(np.log(10.0)), ())

  def __call__(self, images: Array, sentences: Array) -> tuple[Array, Array, Array]:
    """Codes of both sides, [b, size] each, and the factor of their products in training."""
    return self.image(images), self.caption(sentences), jnp.exp(self.log_scale)

  def image(self, images: Array) -> Array:
    """images [b, 64, 64, 3] in [0, 1] to [b, size] float32."""
    return unit(self.from_backbone(self.backbone(images)))

  def caption(self, sentences: Array) -> Array:
    """Masked means of MiniLM's words, [b, 384] of any length, to [b, size] float32."""
    return unit(self.from_sentence(unit(sentences)))


class Backbone(nn.Module):
  """images [b, 64, 64, 3] in [0, 1] to features [b, 5 * widths[-1]].

  They are the mean of each quarter of the image, so that left and right, above and below are
  told apart, and the maximum over all of it.
  """

  widths: tuple[int, ...]

  @nn.compact
  def __call__(self, images: Array) -> Array:
    x = nn.Conv(self.widths[0], (4, 4), (2, 2))(2 * images - 1)
    for width in self.widths[1:]:
      x = nn.Conv(width, (3, 3), (2, 2))(nn.silu(nn.GroupNorm(8)(x)))
      x += nn.Conv(width, (3, 3))(nn.silu(nn.GroupNorm(8)(x)))
    x = nn.silu(nn.GroupNorm(8)(x))
    quarter = (x.shape[1] // 2, x.shape[2] // 2)
    quarters = nn.avg_pool(x, quarter, quarter)
    return jnp.concatenate([quarters.reshape(len(x), -1), x.max((1, 2))], -1)


_FILES = OwnWeights('judge', NAMES, Judge,
                    (jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32),
                     jax.ShapeDtypeStruct((1, SENTENCE), jnp.float32)))
path_of, find, load, save = _FILES.path_of, _FILES.find, _FILES.load, _FILES.save
