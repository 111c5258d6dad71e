"""The stacked networks give today the numbers that they gave when tests/goldens was written.

Weights and inputs come from numpy. Where torch is installed, the same networks are compared with
torch's (stacked_torch_test.py). After a change that is meant to change numbers, write them anew:

  pytest tests/networks/stacked_golden_test.py --regenerate
"""
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.layers.spectral import init_vectors, spectral_normalize
from xmc_jax.networks import attngan, dm_gan

FILE = pathlib.Path(__file__).parents[1] / 'goldens' / 'stacked.json'
ROWS, SIZE = 2, 32


def generator(module):
  network = module.generator(SIZE, 4, 1, noise_features=5, condition_features=3)
  text, z = toys.text(rows=ROWS), toys.normal(3, ROWS, 8)
  variables = toys.fill(jax.eval_shape(lambda: network.init(jax.random.key(0), text, z, True)))
  train = jax.jit(lambda v: network.apply(v, text, z, True, mutable=['batch_stats'])[0])
  images, (mean, _) = train(variables)
  return {'small': images[0], 'middle': images[1], 'large': images[2], 'mean': mean}


def discriminator(module):
  network, sentence = module.discriminator(SIZE, 2), jnp.array(toys.text(rows=ROWS).sentence)
  images = tuple(toys.numbers(side).random((ROWS, side, side, 3)).astype(np.float32)
                 for side in (8, 16, 32))
  variables = jax.eval_shape(lambda: network.init(jax.random.key(0), images, sentence))
  if module is dm_gan:
    kernels = dm_gan.spectral(variables['params'])
    variables = variables | {'spectral': jax.eval_shape(
        lambda: init_vectors(jax.random.key(0), jax.tree.map(
            lambda x: jnp.zeros(x.shape), kernels)))}
  variables = toys.fill(variables)

  @jax.jit
  def run(variables):
    params, _ = spectral_normalize(variables['params'], variables.get('spectral', {}),
                                   epsilon=1e-24)
    stats = {k: v for k, v in variables.items() if k == 'batch_stats'}
    return network.apply({'params': params, **stats}, images, sentence,
                         mutable=['batch_stats'])[0][0]
  view = run(variables)
  return {'paired': jnp.stack(view.logits), 'alone': jnp.stack(view.unconditional)}


def digest(x):
  """Up to 16 numbers spread evenly over an array, then its mean and mean square."""
  x = np.asarray(x, np.float64)
  some = x.reshape(-1)[::x.size // 16 | 1][:16]
  return [round(float(v), 7) for v in (*some, x.mean(), (x * x).mean())]


@pytest.mark.parametrize('network', [generator, discriminator])
@pytest.mark.parametrize('module', [attngan, dm_gan], ids=lambda m: m.__name__.split('.')[-1])
def test_outputs_are_those_of_the_golden_file(module, network, request):
  name = f'{module.__name__.split(".")[-1]}.{network.__name__}'
  found = {k: digest(v) for k, v in network(module).items()}
  goldens = json.loads(FILE.read_text()) if FILE.exists() else {}
  if request.config.getoption('regenerate'):
    goldens[name] = found
    FILE.write_text(json.dumps(goldens, indent=1) + '\n')
  assert found.keys() == goldens[name].keys()
  for key, numbers in found.items():
    np.testing.assert_allclose(numbers, goldens[name][key], rtol=1e-4, atol=2e-5, err_msg=key)
