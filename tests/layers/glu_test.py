"""Gated blocks: by hand, and as the sequence of layers that they stand for."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.glu import GluResidual, GluUp, glu
from xmc_jax.layers.impl import FAST, REFERENCE

pytestmark = pytest.mark.usefixtures('strict')

X = toys.normal(0, 4, 4, 4, 3)


def test_gate_by_hand():
  # sigmoid(0) = 1/2, sigmoid(ln 3) = 3/4
  x = jnp.array([[2.0, 4, 0, np.log(3)]])
  np.testing.assert_allclose(glu(x), [[1.0, 3]], rtol=1e-6)


def filled(block):
  variables = toys.fill(jax.eval_shape(lambda: block.init(jax.random.key(0), jnp.array(X), True)))
  return variables, variables['params']


def layer(x, conv, norm):
  """3x3 convolution, then batch normalization of all rows, in float64."""
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  h, w = x.shape[1:3]
  y = sum(padded[:, i:i + h, j:j + w] @ conv['kernel'][i, j].astype(float)
          for i in range(3) for j in range(3))
  normal = (y - y.mean((0, 1, 2))) / np.sqrt(y.var((0, 1, 2)) + 1e-5)
  return normal * norm['scale'] + norm['bias']


def gated(x):
  value, gate = np.split(x, 2, -1)
  return value / (1 + np.exp(-gate))


@pytest.mark.parametrize('impl', [FAST, REFERENCE])
def test_up_doubles_convolves_normalizes_and_gates(impl):
  block = GluUp(5, impl=impl)
  variables, p = filled(block)
  out, _ = block.apply(variables, jnp.array(X), True, mutable=['batch_stats'])
  expected = gated(layer(X.astype(float).repeat(2, 1).repeat(2, 2), p['conv'], p['norm']))
  np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-4)


def test_residual_adds_and_nothing_follows():
  block = GluResidual()
  variables, p = filled(block)
  out, _ = block.apply(variables, jnp.array(X), True, mutable=['batch_stats'])
  h = gated(layer(X.astype(float), p['conv_in'], p['norm_in']))
  np.testing.assert_allclose(out, X + layer(h, p['conv_out'], p['norm_out']), rtol=1e-3, atol=1e-4)
