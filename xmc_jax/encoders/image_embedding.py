"""Image embeddings by a frozen ImageNet network, for losses that contrast fake and real images.

  image = image_embedding.build("resnet50", jnp.bfloat16)
  embeddings = image.embed(image.load(), images)           # [b, d]

XMC-GAN's paper uses VGG-19 but does not name the layer; the mean of the last convolution is our
choice. Its released code uses the logits of a ResNet-50 at 224 px with weights of its own and
inputs in [0, 1]. The weights used here are torchvision's, and get standardized inputs as they need.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from xmc_jax.encoders import registry, resnet, vgg
from xmc_jax.encoders.features import variables_spec
from xmc_jax.types import Array, Tree, UserError


@dataclasses.dataclass(frozen=True)
class EmbedderSpec:
  """network: creates it, given a dtype. part: of its `Features`. side: in pixels, None for any."""

  network: Callable[[jnp.dtype], nn.Module]
  part: str
  side: int | None = None


# Keys are names of weights in the registry.
EMBEDDERS = {
  'vgg16-backbone': EmbedderSpec(lambda dtype: vgg.VggConvs(vgg.STAGES, dtype, None), 'pool'),
  'vgg19': EmbedderSpec(lambda dtype: vgg.VggConvs(vgg.STAGES_19, dtype, None), 'pool'),
  'resnet50': EmbedderSpec(lambda dtype: resnet.ResNet50(dtype=dtype, precision=None), 'logits',
                   resnet.SIDE)}


@dataclasses.dataclass(frozen=True)
class ImageEmbedder:
  """One of `EMBEDDERS`, with its network."""

  name: str
  network: nn.Module
  kind: EmbedderSpec

  def embed(self, variables: Tree, images: Array) -> Array:
    """Images [b, h, w, 3], RGB in [0, 1], to embeddings float32 [b, d].

    Images are resized bilinearly if the network has a fixed side; otherwise the embeddings depend
    on the image size.
    """
    side = self.kind.side
    if side and images.shape[1:3] != (side, side):
      images = jax.image.resize(images, (len(images), side, side, 3), 'bilinear')
    return getattr(self.network.apply(variables, vgg.standardized(images)), self.kind.part)

  def spec(self) -> Tree:
    """Shapes and dtypes of the variables; needs no file."""
    return variables_spec(self.network, self.kind.side or vgg.SIDE)

  def load(self) -> Tree:
    """The variables, float32; UserError as by `registry.load`."""
    found = registry.load(self.name).variables     # a VGG file includes the classifier
    return {part: {layer: found[part][layer] for layer in layers}
            for part, layers in self.spec().items()}


def build(name: str, dtype: jnp.dtype = jnp.float32) -> ImageEmbedder:
  """The image network with this name; UserError that lists them if there is none."""
  if name not in EMBEDDERS:
    raise UserError(f'--config.image.encoder={name}: choose one of {", ".join(EMBEDDERS)}')
  return ImageEmbedder(name, EMBEDDERS[name].network(dtype), EMBEDDERS[name])
