"""The transformer of both encoders of CLIP, with layer norm before each residual branch."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from xmc_jax.types import Array
from xmc_jax.weight_files.hf_folders import size

HIGHEST = jax.lax.Precision.HIGHEST
normal = nn.initializers.normal
ACTIVATIONS = {'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x),
               'gelu': lambda x: nn.gelu(x, approximate=False)}


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """The sizes of a transformer; `activation` is one of `ACTIVATIONS`."""
  width: int
  layers: int
  heads: int
  inner: int
  activation: str
  eps: float

  @classmethod
  def of(cls, raw: Mapping) -> TransformerConfig:
    """From a part of `config.json`; KeyError, ValueError or TypeError if it is unusable."""
    width, heads = size(raw, 'hidden_size'), size(raw, 'num_attention_heads')
    if width % heads:
      raise ValueError(f'{heads} heads do not divide a width of {width}')
    if raw['hidden_act'] not in ACTIVATIONS:
      raise ValueError(f"hidden_act is {raw['hidden_act']!r}, not {' or '.join(ACTIVATIONS)}")
    return cls(width, size(raw, 'num_hidden_layers'), heads, size(raw, 'intermediate_size'),
               raw['hidden_act'], size(raw, 'layer_norm_eps', float))

  def raw(self) -> dict[str, int | float | str]:
    """The inverse of `of`."""
    return {'hidden_size': self.width, 'num_hidden_layers': self.layers,
            'num_attention_heads': self.heads, 'intermediate_size': self.inner,
            'hidden_act': self.activation, 'layer_norm_eps': self.eps}


class ClipLayer(nn.Module):
  """Self-attention, then an MLP, each applied to the layer norm of x and added to x.

  Weights are initialized as those of the text encoder in CLIP's released code, here for the image
  encoder too: the more layers, the smaller the output of each branch.
  """
  sizes: TransformerConfig
  causal: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """float32 [b, t, e] to float32 [b, t, e]; if causal, no position attends to a later one."""
    b, t, e = x.shape
    heads = self.sizes.heads

    def dense(name, size, std):
      return nn.Dense(size, dtype=self.dtype, precision=HIGHEST, name=name, kernel_init=normal(std))

    std_in, std_out = e ** -0.5, (2 * self.sizes.layers * e) ** -0.5   # of a branch's weights
    normed = norm(self.sizes.eps, 'norm_attend')(x)
    query, key, value = (
      dense(name, e, std_in)(normed).reshape(b, t, heads, -1) for name in ('query', 'key', 'value'))
    scores = jnp.einsum('bqhk,bthk->bhqt', query, key, precision=HIGHEST,
                        preferred_element_type=jnp.float32) / np.sqrt(e // heads)
    if self.causal:
      scores = jnp.where(jnp.tri(t, dtype=bool), scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores).astype(self.dtype)
    context = jnp.einsum('bhqt,bthk->bqhk', weights, value, precision=HIGHEST)
    x += dense('attended', e, std_out)(context.reshape(b, t, e)).astype(jnp.float32)
    hidden = norm(self.sizes.eps, 'norm_widen')(x)
    hidden = dense('widen', self.sizes.inner, (2 * e) ** -0.5)(hidden)
    hidden = ACTIVATIONS[self.sizes.activation](hidden)
    return x + dense('narrow', e, std_out)(hidden).astype(jnp.float32)


def norm(eps: float, name: str | None = None) -> nn.LayerNorm:
  """Layer norm in float32."""
  return nn.LayerNorm(eps, dtype=jnp.float32, use_fast_variance=False, name=name)
