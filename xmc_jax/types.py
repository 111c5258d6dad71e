"""The words and shapes that every module of the project shares.

One letter an axis, the same everywhere; in annotations such as `Float[Array, 'b h w 3']` jaxtyping
checks them in tests:

  r  rounds of data in one training step      b  rows (images with a caption) of one round
  h, w, c  height, width, channels            t  word pieces of a caption, padding included
  n  regions of a feature map (16 x 16)       e  features of a word or region
  l  classes of a label                       d  any other feature axis

A **batch** is a dict of arrays. In the input pipeline its leaves have leading axes `[r, b]` and its
images are still uint8; inside a phase of the training step the axis is `[b]`:

  image   float32 [b, h, w, 3]   in [0, 1], as at every public door of the project
  tokens  int32   [b, t]         word pieces, CLS and SEP included, padded with 0
  mask    bool    [b, t]         True where `tokens` is text and not padding
  label   int32   [b]            class of the image; or float32 [b, l], amounts of all classes: 0
                                 is absent, else the share it covers, or 1 if that is not known
  objects float32 [b, k, 4]      of data with boxes: kind, y, x and side of each object, see
                                 `data/layouts.py`

With `data.partners` there are the same leaves of a second image, whose label is positive with the
first's: `partner_image`, `partner_tokens`, `partner_mask`, `partner_label`.
"""
from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING or find_spec('jaxtyping'):
  from jaxtyping import Bool, Float, Int, Shaped
else:      # annotations are not evaluated
  Bool = Float = Int = Shaped = None

Array = jax.Array
Batch = Mapping[str, Array]
Tree = Any  # a pytree of arrays
PARTNER = 'partner_'      # prefix of the leaves of a batch's second view

# When the labels of two images match: {rule: weight of the pair}. An image without any class
# matches none. If images have one class each, all rules but "self" require equal classes.
LABEL_RULES = {
    'exact': '1 if both have the same set of classes',
    'overlap': '1 if they share at least one class',
    'dominant': '1 if the class with the largest amount is the same (of equal amounts the first)',
    'jaccard': 'number of classes that they share over the number of classes that either has',
    'self': '1 for an image with itself alone, whatever its label'}


class UserError(Exception):
  """A mistake of the user's that one sentence explains: what is wrong, where, and what to do.

  `main.py` prints the sentence and exits with `code`, without a traceback.
  """
  code = 2


class NotFinite(UserError):
  """Images or scores of a generator are NaN or infinite, so there is nothing to report."""
