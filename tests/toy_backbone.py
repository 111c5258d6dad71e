"""An image backbone without a file of weights, for tests of DAMSM."""
import jax
import jax.numpy as jnp
import toys
from flax import linen as nn

from xmc_jax.encoders import image_backbones


class ToyNetwork(nn.Module):
  """4 x 4 regions of 5 features, and a pool of 3."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(5, (2, 2), (2, 2), name='conv')(x))
    return x, nn.Dense(3, name='pool')(x.mean((1, 2)))


class ToyBackbone(image_backbones.ImageBackbone):
  """Weights without a file."""

  def load(self):
    return jax.tree.map(jnp.array, toys.fill(self.spec))

  def sha256(self):
    return 'toy'


TOY = ToyBackbone('toy', ToyNetwork, lambda x: 2 * x - 1, 8)
