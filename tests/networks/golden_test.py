"""The networks give today the numbers that they gave when tests/goldens was written.

Weights and inputs come from numpy, so a new version of JAX changes nothing. After a change of the
networks that is meant to change their output, write the numbers anew:

  pytest tests/networks/golden_test.py --regenerate
"""
import json
import pathlib

import jax
import numpy as np
import pytest
import toys

from xmc_jax.layers.spectral import init_vectors, spectral_normalize
from xmc_jax.networks.xmc_gan import XmcDiscriminator, XmcGenerator

FILE = pathlib.Path(__file__).parents[1] / 'goldens' / 'xmc.json'
ROWS, SIZE, WIDTH, Z = 2, 32, 4, 5


def generator(text):
  module, z = XmcGenerator(SIZE, WIDTH), toys.normal(3, ROWS, Z)
  variables = toys.fill(jax.eval_shape(lambda: module.init(jax.random.key(0), text, z, False)))
  train = jax.jit(lambda v: module.apply(v, text, z, True, mutable=['batch_stats'])[0])
  evaluate = jax.jit(lambda v: module.apply(v, text, z, False))
  return {'train': train(variables), 'evaluate': evaluate(variables)}


def discriminator(text):
  module = XmcDiscriminator(SIZE, WIDTH)
  image = toys.numbers(4).random((ROWS, SIZE, SIZE, 3)).astype(np.float32)

  def init():
    params = module.init(jax.random.key(0), image, text)['params']
    return {'params': params, 'spectral': init_vectors(jax.random.key(0), params)}
  variables = toys.fill(jax.eval_shape(init))

  @jax.jit
  def run(variables):
    params, _ = spectral_normalize(variables['params'], variables['spectral'])
    view = module.apply({'params': params}, image, text)
    return {'logits': view.logits[0], 'features': view.features, 'regions': view.regions,
            'sentence': view.sentence}
  return run(variables)


def digest(x):
  """Up to 32 numbers spread evenly over an array, then its mean and mean square."""
  x = np.asarray(x, np.float64)
  some = x.reshape(-1)[::x.size // 32 | 1][:32]
  return [round(float(v), 7) for v in (*some, x.mean(), (x * x).mean())]


@pytest.mark.parametrize('network', [generator, discriminator])
def test_outputs_are_those_of_the_golden_file(network, request):
  name = network.__name__
  found = {k: digest(v) for k, v in network(toys.text(rows=ROWS)).items()}
  goldens = json.loads(FILE.read_text()) if FILE.exists() else {}
  if request.config.getoption('regenerate'):
    goldens[name] = found
    FILE.write_text(json.dumps(goldens, indent=1) + '\n')
  assert found.keys() == goldens[name].keys()
  for key, numbers in found.items():
    np.testing.assert_allclose(numbers, goldens[name][key], rtol=1e-5, atol=1e-5, err_msg=key)
