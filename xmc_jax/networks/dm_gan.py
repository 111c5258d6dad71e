"""DM-GAN: words are read through a dynamic memory (Zhu et al. 2019, arXiv 1904.01310).

It differs from AttnGAN in how it reads words, and in discriminators with spectral instead of batch
normalization. The released code does a power iteration at every call of a convolution; here all
calls of a phase share one.
"""
from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from xmc_jax.layers.attention import attend
from xmc_jax.layers.conv import fan_in_bias
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.networks.attngan import MASKS
from xmc_jax.networks.stacked import Conv, Dense, StackedDiscriminator, StackedGenerator
from xmc_jax.types import Array, Tree


class DynamicMemory(nn.Module):
  """A map [b, s, s, c] after its pixels have asked a memory of the words; twice, [b, s, s, 2c].

  The memory has a slot for each word. A gate of the word and of the map's mean (without gradient)
  decides how much of the word and how much of the mean is written; keys and values of the slots
  are read by attention, and a gate of each pixel decides how much of the pixel that replaces.
  """
  mask: str = 'own'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, words: Array, mask: Array) -> Array:
    b, h, w, c = x.shape
    dense = lambda features, inputs, name: Dense(
        features, bias_init=fan_in_bias, dtype=self.dtype, name=name)(inputs)
    relu = lambda *args: nn.relu(dense(*args))
    score = lambda inputs, name: Dense(1, bias_init=None, dtype=self.dtype, name=name)(inputs)

    mean = jax.lax.stop_gradient(x.astype(jnp.float32).mean((1, 2))).astype(x.dtype)[:, None]
    gate = jax.nn.sigmoid(score(words, 'gate_word') + score(mean, 'gate_mean'))
    memory = (gate * relu(2 * c, words, 'write_word')
              + (1 - gate) * relu(2 * c, mean, 'write_mean'))
    keys, values = relu(c, memory, 'key'), relu(c, memory, 'value')
    read = attend(x.reshape(b, h * w, c), keys, values, MASKS[self.mask](mask, h * w))
    read = read.reshape(x.shape).astype(x.dtype)
    response = jax.nn.sigmoid(dense(1, jnp.concatenate([x, read], -1), 'response'))
    x = (1 - response) * x + response * read
    return jnp.concatenate([x, x], -1)


def generator(size: int, width: int, residuals: int, *, mask: str = 'own',
              **options) -> StackedGenerator:
  """The generator; `options` are further fields of `stacked.StackedGenerator`."""
  return StackedGenerator(size, width, residuals, functools.partial(DynamicMemory, mask), **options)


def discriminator(size: int, width: int, *, impl: Impl = FAST,
                  dtype: jnp.dtype = jnp.float32) -> StackedDiscriminator:
  """Three discriminators of convolutions with bias, applied to `spectral` parameters."""
  conv = functools.partial(Conv, bias_init=fan_in_bias, impl=impl, dtype=dtype)
  return StackedDiscriminator(size, width, conv, conv, dtype)


def spectral(params: Tree) -> Tree:
  """The discriminator's parameters that are spectrally normalized: all but the logits."""
  flat = traverse_util.flatten_dict(params)
  return traverse_util.unflatten_dict(
      {path: leaf for path, leaf in flat.items() if not path[-2].startswith('logit')})
