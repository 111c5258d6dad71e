"""What one training step moves between devices, by the number of devices; prints a JSON line each.

  python benchmarks/collectives.py --config configs/xmc_gan_coco256.py --devices 1,8,64

Compiles the step for that many devices of this machine's CPU, one process after the other, and runs
nothing: neither accelerators nor data are needed. The batch is the config's, whatever the devices.
What the keys are stands in benchmarks/README.md.
"""
import argparse
import collections
import itertools
import math
import subprocess
import sys

import common
import jax
import program_cost

from xmc_jax.encoders import bert
from xmc_jax.training import program as programs
from xmc_jax.types import UserError

REGIONS = 16 * 16               # of an image that words are compared with
_STRUCTURE = ('while', 'body', 'closed_call', 'checkpoint', 'rematted_computation', 'cond')


class Sizes:
  """The sizes by which arrays are recognised."""

  def __init__(self, config, state, devices: int):
    rows = config.batch_size
    self.rows = {rows, rows // devices}
    self.sides = {side for k in range(8) if (side := config.model.size >> k) >= 8}
    self.regions = {n * REGIONS for n in self.rows}
    words = rows * config.text.length
    width = bert.sizes(config.text.encoder).width
    self.words = {words * width, words}                                # and their mask
    self.words_bytes = words * (width * jax.numpy.dtype(config.model.dtype).itemsize + 1)
    self.parameters = {tuple(sorted(x.shape)) for network in state.networks.values()
                       for x in jax.tree.leaves(network.params)}


def purpose(kind: str, shape: tuple[int, ...], name: str, sizes: Sizes) -> str:
  """What an array is moved for.

  'words', 'gradients', 'parameters', 'batch_norm' (statistics and their gradients), a loss by the
  name of its function in `xmc_jax.losses`, or 'other' (most of it accuracies).
  """
  if kind == 'all-gather' and math.prod(shape) in sizes.words:
    return 'words'
  path = name.split('/')
  if 'norm' in path:
    return 'batch_norm'
  phase = next((k for k, part in enumerate(path) if 'jvp(' in part), None)
  if phase is None:
    whole = kind == 'all-gather' and tuple(sorted(shape)) in sizes.parameters
    return 'parameters' if whole else 'other'
  backward = 'transpose(' in path[phase]
  if 'shard_map' in path:     # `per_device`
    return 'gradients' if backward else 'other'
  inside = [part for part in path[phase + 1:-1] if part not in _STRUCTURE]
  scope = inside[0].removeprefix('vmap(').removesuffix(')') if inside else '('
  if '(' in scope:
    return 'other'
  if scope.islower():         # a loss, mapped where it contrasts within groups
    return scope
  return 'gradients' if backward else 'other'


def is_image(kind: str, shape: tuple[int, ...], why: str, sizes: Sizes) -> bool:
  """Whether an array looks like images or maps of features, [.., h, h, ..], or like regions.

  Gradients and parameters, whose kernels can look the same, are told by their names.
  """
  if why in ('gradients', 'parameters'):
    return False
  if len(shape) < 3:
    return bool(shape) and shape[0] in sizes.regions                   # regions of all rows
  rest = shape[1:] if shape[0] in sizes.rows else shape
  return REGIONS in rest or any(a == b and a in sizes.sides for a, b in itertools.pairwise(rest))


def arrays(step: programs.Step, sizes: Sizes) -> list[dict] | None:
  """Every array that is moved: kind, shape, dtype, times, bytes sent in all, purpose, op_name.

  None where the text of the compiled step cannot be read.
  """
  found, rounds = [], [program_cost.collectives(run) for run in step.rounds]
  if None in rounds:
    return None
  for moved in itertools.chain.from_iterable(rounds):
    for shape, dtype, size, name in zip(moved.shapes, moved.dtypes, moved.sizes, moved.op_names):
      why = purpose(moved.kind, shape, name, sizes)
      found.append({'kind': moved.kind, 'shape': shape, 'dtype': dtype, 'times': moved.times,
                    'sent': moved.sent * size // max(moved.bytes, 1), 'for': why, 'name': name})
  return found


def facts(config) -> dict:
  """The line of one number of devices."""
  method, program = common.build(config)
  n, state = program.mesh.size, program.state_spec
  sizes = Sizes(config, state, n)
  moved = arrays(program.compile(), sizes)
  line = {'devices': n, 'rows': config.batch_size, 'px': config.model.size,
          'width': config.model.width, 'dtype': config.model.dtype, 'impl': config.model.impl,
          'microbatches': config.microbatches, 'jax': jax.__version__}
  if moved is None:
    return line | {'sent': None}
  by = lambda key: dict(sum((collections.Counter({a[key]: a['sent']}) for a in moved),
                            collections.Counter()))
  parameters = programs.parameters(state)
  pulled = sum(parameters[name] for phases in method.objective.rounds for phase in phases
               for name in phase.updates)
  largest = sorted(moved, key=lambda a: -a['sent'])[:10]
  return line | {
      'sent': sum(a['sent'] for a in moved), 'sent_by_kind': by('kind'), 'sent_for': by('for'),
      'gradients_once': 2 * 4 * pulled * (n - 1) // n,
      'words_once': len(method.objective.rounds) * sizes.words_bytes * (n - 1) // n,
      'image_or_region_shaped': [a for a in moved if is_image(
          a['kind'], a['shape'], a['for'], sizes)],
      'largest': largest}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--devices', default='1,2,4,8', help='their numbers, such as 1,8,64')
  args, config = common.parse(parser)
  numbers = [int(n) for n in args.devices.split(',')]
  if len(numbers) == 1:
    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_num_cpu_devices', numbers[0])
    try:
      common.show(facts(config))
    except UserError as error:
      parser.error(str(error))
    return
  for n in numbers:                          # how many there are is settled when JAX starts
    code = subprocess.run([sys.executable, *sys.argv, f'--devices={n}'], check=False).returncode
    if code:
      sys.exit(code)


if __name__ == '__main__':
  main()
