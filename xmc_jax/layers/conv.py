"""Convolution and dense layers of the papers: Glorot-normal kernels, zero biases, all float32."""
import functools

import flax.linen as nn
import jax.numpy as jnp

from xmc_jax.layers import resample
from xmc_jax.layers.impl import FAST, Impl

GLOROT = nn.initializers.glorot_normal()

# A linear map of the last axis, so of a map [b, h, w, c] a 1x1 convolution.
Dense = functools.partial(nn.Dense, kernel_init=GLOROT)


class Conv3x3(nn.Module):
  """3x3 convolution [b, h, w, c] -> [b, h', w', features], alone or with a change of size.

  resize: 'same'; 'up', after nearest-neighbour doubling; 'pool', before 2x2 average pooling.
  """
  features: int
  resize: str = 'same'
  impl: Impl = FAST
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    kernel = self.param('kernel', GLOROT, (3, 3, x.shape[-1], self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    run = {'same': resample.conv, 'up': resample.AFTER_UP[self.impl.up],
           'pool': resample.BEFORE_POOL[self.impl.pool]}[self.resize]
    return run(x.astype(self.dtype), kernel) + bias.astype(self.dtype)[None, None, None]
