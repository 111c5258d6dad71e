"""Convolution and dense layers of the papers: Glorot-normal kernels, zero biases, all float32."""
import functools

import flax.linen as nn
import jax.numpy as jnp

from xmc_jax.layers import resample

GLOROT = nn.initializers.glorot_normal()

# A linear map of the last axis, so of a map [b, h, w, c] a 1x1 convolution.
Dense = functools.partial(nn.Dense, kernel_init=GLOROT)

# (change of size, fast form?) -> function of a map and a 3x3 kernel
_FORMS = {
    ('same', True): resample.conv, ('same', False): resample.conv,
    ('up', True): resample.conv_after_up, ('up', False): resample.conv_after_up_plain,
    ('pool', True): resample.conv_before_pool, ('pool', False): resample.conv_before_pool_plain,
}


class Conv3x3(nn.Module):
  """3x3 convolution [b, h, w, c] -> [b, h', w', features], alone or with a change of size.

  resize: 'same'; 'up', after nearest-neighbour doubling; 'pool', before 2x2 average pooling.
  fast: fold the change of size into the kernel (same function, see `resample.py`).
  """
  features: int
  resize: str = 'same'
  fast: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    kernel = self.param('kernel', GLOROT, (3, 3, x.shape[-1], self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    return _FORMS[self.resize, self.fast](x.astype(self.dtype), kernel) + bias.astype(self.dtype)
