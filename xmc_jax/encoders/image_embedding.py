"""Codes of images by a frozen network of ImageNet, for losses that hold fakes against real ones.

  image = image_embedding.build("resnet50", jnp.bfloat16)
  codes = image.embed(image.load(), images)           # [b, d]

XMC-GAN's paper names VGG-19 (which layer we do not know: the average of the last convolution is
our choice). Its released code takes the logits of a ResNet-50 at 224 px with weights of its own,
fed with [0, 1]; torchvision's, which are taken here, are for standardised images and get them so.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from xmc_jax.encoders import registry, resnet, vgg
from xmc_jax.types import Array, Tree, UserError


@dataclasses.dataclass(frozen=True)
class Kind:
  """network: makes it, of a dtype. part: of its `Features`. side: pixels, None for any."""

  network: Callable[[jnp.dtype], nn.Module]
  part: str
  side: int | None = None


# By their names in the table of weights.
KINDS = {
  'vgg16-backbone': Kind(lambda dtype: vgg.Backbone(vgg.STAGES, dtype, None), 'pool'),
  'vgg19': Kind(lambda dtype: vgg.Backbone(vgg.STAGES_19, dtype, None), 'pool'),
  'resnet50': Kind(lambda dtype: resnet.ResNet50(dtype=dtype, precision=None), 'logits',
                   resnet.SIDE)}


@dataclasses.dataclass(frozen=True)
class ImageEmbedder:
  """One of `KINDS` with its network."""

  name: str
  network: nn.Module
  kind: Kind

  def embed(self, variables: Tree, images: Array) -> Array:
    """Images [b, h, w, 3], RGB in [0, 1], to float32 [b, d].

    They are resized bilinearly where the kind says a side; codes of the others depend on the size.
    """
    side = self.kind.side
    if side and images.shape[1:3] != (side, side):
      images = jax.image.resize(images, (len(images), side, side, 3), 'bilinear')
    return getattr(self.network.apply(variables, vgg.standardised(images)), self.kind.part)

  def spec(self) -> Tree:
    """Shapes and dtypes of the variables, known without a file."""
    side = self.kind.side or vgg.SIDE
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(self.network.init, jax.random.key(0), images)

  def load(self) -> Tree:
    """The variables, float32; UserError as of `weights.load`."""
    found = registry.load(self.name).variables     # a VGG's file has a classifier too
    return {part: {layer: found[part][layer] for layer in layers}
            for part, layers in self.spec().items()}


def build(name: str, dtype: jnp.dtype = jnp.float32) -> ImageEmbedder:
  """The image network of a name; UserError that lists them for an unknown one."""
  if name not in KINDS:
    raise UserError(f'--config.image.encoder={name}: choose one of {", ".join(KINDS)}')
  return ImageEmbedder(name, KINDS[name].network(dtype), KINDS[name])
