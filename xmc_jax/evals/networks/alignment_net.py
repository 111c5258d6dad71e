"""The alignment network: embeds images and captions in one space, to score image-text alignment.

A small convolutional network for 64 x 64 images and a linear map of frozen MiniLM sentence
embeddings, trained together by `tools/train_alignment_net.py` on real images only. It is therefore
independent of every generator and of the encoders in a generator's losses. The package includes
weights for each embedded data set, trained on the train split of that set and nothing else.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from xmc_jax.types import Array
from xmc_jax.utils.arrays import unit
from xmc_jax.weight_files.own_weights import OwnWeights

SIDE = 64  # pixels per side
SENTENCE = 384  # features of a MiniLM sentence embedding
NAMES = ('emoji', 'emoji_scenes')


class AlignmentNet(nn.Module):
  """Maps images and captions to unit vectors; their dot product says how well they match.

  `widths` are the channels at 1/2, 1/4, 1/8 and 1/16 of the side, `size` is the embedding size.
  """
  widths: tuple[int, ...] = (24, 48, 96, 144)
  size: int = 128

  def setup(self):
    self.backbone = AlignmentBackbone(self.widths)
    self.image_projection = nn.Dense(self.size)
    self.text_projection = nn.Dense(self.size, use_bias=False)
    self.log_scale = self.param('log_scale', nn.initializers.constant(np.log(10.0)), ())

  def __call__(self, images: Array, sentences: Array) -> tuple[Array, Array, Array]:
    """Embeddings of both, [b, size] each, and the logit scale of the training loss."""
    return self.image(images), self.caption(sentences), jnp.exp(self.log_scale)

  def image(self, images: Array) -> Array:
    """Images [b, 64, 64, 3] in [0, 1] to unit vectors float32 [b, size]."""
    return unit(self.image_projection(self.backbone(images)))

  def caption(self, sentences: Array) -> Array:
    """MiniLM sentence embeddings [b, 384], of any length, to unit vectors float32 [b, size]."""
    return unit(self.text_projection(unit(sentences)))


class AlignmentBackbone(nn.Module):
  """Images [b, 64, 64, 3] in [0, 1] to features [b, 5 * widths[-1]].

  The features are the mean of each quadrant, which keeps left, right, above and below apart, and
  the maximum over the whole image.
  """
  widths: tuple[int, ...]

  @nn.compact
  def __call__(self, images: Array) -> Array:
    x = nn.Conv(self.widths[0], (4, 4), (2, 2))(2 * images - 1)
    for width in self.widths[1:]:
      x = nn.Conv(width, (3, 3), (2, 2))(nn.silu(nn.GroupNorm(8)(x)))
      x += nn.Conv(width, (3, 3))(nn.silu(nn.GroupNorm(8)(x)))
    x = nn.silu(nn.GroupNorm(8)(x))
    quadrant = (x.shape[1] // 2, x.shape[2] // 2)
    means = nn.avg_pool(x, quadrant, quadrant)
    return jnp.concatenate([means.reshape(len(x), -1), x.max((1, 2))], -1)


_FILES = OwnWeights('alignment_net', NAMES, AlignmentNet,
                    (jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32),
                     jax.ShapeDtypeStruct((1, SENTENCE), jnp.float32)))
path_of, find, load, save = _FILES.path_of, _FILES.find, _FILES.load, _FILES.save
