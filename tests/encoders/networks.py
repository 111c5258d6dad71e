"""Random weights and goldens for the tests of encoders, the same with and without torch."""
import json
import pathlib

import jax
import numpy as np

GOLDENS = pathlib.Path(__file__).parent / 'goldens'


def random_state(shapes):
  """{name: array} of a state dict: weights that keep the scale of their inputs, sane statistics."""
  rng = np.random.RandomState(0)
  state = {}
  for name, shape in sorted(shapes.items()):
    if name.endswith('num_batches_tracked'):
      continue
    fan_in = np.prod(shape[1:], dtype=int) if len(shape) > 1 else 1
    value = rng.standard_normal(shape) * np.sqrt(2 / fan_in if len(shape) > 1 else 0.01)
    if len(shape) == 1 and not name.endswith(('bias', 'running_mean')):
      value = np.abs(value) + 0.5
    state[name] = value.astype(np.float32)
  return state


def images(side, rows=2):
  """float32 [rows, side, side, 3] in [0, 255]."""
  rng = np.random.RandomState(1)
  return (255 * rng.random_sample((rows, side, side, 3))).astype(np.float32)


def run(module, variables, x):
  """(pool, logits) as numpy arrays."""
  return [np.asarray(part) for part in jax.jit(module.apply)(variables, x)]


def run_torch(network, before, x):
  """(pool, logits) of a torch network with `random_state`; `before` is the pool's successor.

  The pool is what goes into that layer, flattened; x is [b, h, w, c].
  """
  import torch
  shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
  state = {name: torch.tensor(value) for name, value in random_state(shapes).items()}
  network.load_state_dict(state, strict=False)
  seen = []
  before.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
  with torch.no_grad():
    logits = network.eval()(torch.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2))))
  pool = seen[0]
  pool = pool.mean((2, 3)) if pool.ndim == 4 else pool
  return shapes, pool.numpy(), logits.numpy()


def write_golden(name, shapes, pool, logits):
  """Keeps names, shapes and the first numbers of each row."""
  (GOLDENS / f'{name}.json').write_text(json.dumps({
    'shapes': shapes, 'pool': pool[:, :8].astype(float).round(6).tolist(),
    'logits': logits[:, :8].astype(float).round(6).tolist()}).replace('], "', '],\n"') + '\n')


def golden(name):
  """What `write_golden` kept: ({name: shape}, pool [b, 8], logits [b, 8])."""
  kept = json.loads((GOLDENS / f'{name}.json').read_text())
  return kept['shapes'], np.array(kept['pool']), np.array(kept['logits'])


def assert_near(found, wanted):
  """Relative to the largest number, which is what float32 sums over channels promise."""
  np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max(), rtol=0)
