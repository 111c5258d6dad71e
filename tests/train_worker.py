"""A few steps of a tiny XMC-GAN, in this process or as one of several; for processes_test.py.

SGD, not Adam: see training/devices_test.py.
"""
import json
import os
import sys

import jax
import numpy as np
import optax
import toys

from xmc_jax import methods
from xmc_jax.distributed import processes
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.training.mesh import make_mesh, put_rows, put_whole, replicated
from xmc_jax.training.program import Program

STEPS, LR = 3, 1e-2


def build(text_folder, devices=None):
  """The tiny program on all devices or on the first few, and its method.

  Batch normalization is over all rows, so its statistics cross the processes.
  """
  method = methods.build(toys.tiny_config(text_folder))
  return method, Program(method.objective, {name: optax.sgd(LR) for name in 'gd'}, 0.9,
                         method.frozen_spec, method.batch_spec,
                         make_mesh(devices and jax.devices()[:devices]))


def first_state(program):
  """toys.state, put in the way that also works where devices belong to other processes."""
  sharding, spec = replicated(program.mesh), program.state_spec
  filled = {name: (toys.fill(p.params, i), toys.fill(p.stats, i))
            for i, (name, p) in enumerate(sorted(spec.networks.items()))}
  networks = {name: spec.networks[name].replace(           # the state of SGD is empty
      params=put_whole(params, sharding), stats=put_whole(stats, sharding))
             for name, (params, stats) in filled.items()}
  return spec.replace(step=put_whole(np.int32(0), sharding), networks=networks,
                      rng=jax.jit(jax.random.key, out_shardings=sharding)(0),
                      ema={name: put_whole(filled[name][0], sharding) for name in spec.ema})


def train(method, program):
  """Last state, and {name: array}: each metric of each step, each leaf after 0, 1 and all steps.

  What SGD did in the first step is LR times the sum of its gradients.
  """
  index, count = jax.process_index(), jax.process_count()
  step_of, found = program.compile(), {}
  frozen, state = program.put_frozen(method.load_frozen()), first_state(program)
  keep = lambda state, at: found.update(
      (f'after {at} {jax.tree_util.keystr(path)}', np.asarray(leaf))
      for path, leaf in jax.tree_util.tree_leaves_with_path((state.networks, state.ema)))
  keep(state, 0)
  for step in range(STEPS):
    whole = toys.batch(method.batch_spec, step)
    share = whole['image'].shape[1] // count
    batch = {k: v[:, index * share:(index + 1) * share] for k, v in whole.items()}
    state, metrics = step_of(state, frozen, put_rows(batch, program.rows))
    found |= {f'step {step} {name}': value for name, value in jax.device_get(metrics).items()}
    if step in (0, STEPS - 1):
      keep(state, step + 1)
  return state, found


def main(out, text_folder, coordinator, count, index):
  jax.config.update('jax_compilation_cache_dir', os.environ['XMC_JAX_CACHE'])
  with processes.joined(coordinator=coordinator, processes=int(count), process=int(index),
                        heartbeat=60, wait=120, facts={}):
    state, found = train(*build(text_folder))
    if index == '0':
      np.savez(f'{out}/numbers.npz', **found)
    with Checkpoints(f'{out}/checkpoints', every=1) as checkpoints:
      checkpoints.save(STEPS, state, {})
    if index == '0':
      with open(f'{out}/mesh.json', 'w') as file:
        json.dump([device.process_index for device in make_mesh().devices], file)


if __name__ == '__main__':
  main(*sys.argv[1:])
