"""The size and the cost of a config's training step, for `xmc describe`."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.interpreters import partial_eval

from xmc_jax import methods
from xmc_jax.training import mesh as meshes
from xmc_jax.training import program as programs
from xmc_jax.training.program import Program, Step


def describe(config: ml_collections.ConfigDict, *, compile_step: bool = True) -> dict[str, Any]:
  """Facts about the training step of `config` on this machine's devices, ready for JSON.

  Args:
    compile_step: also compile the step for its cost, which takes minutes for large models.
  Returns:
    networks: the parameters, and the shape of each; frozen: the parameters of each network that is
    not trained; batch: the shapes; step: the cost on one device. No weight file is read.
  """
  mesh = meshes.make_mesh()
  meshes.check_rows(config.batch_size, config.microbatches, mesh)
  method = methods.build(config)
  program = methods.program(method, config, mesh)
  parameters = programs.parameters(program.state_spec)
  found = {
      'networks': {name: {'parameters': parameters[name], 'shapes': _shapes(network.params)}
                   for name, network in program.state_spec.networks.items()},
      'frozen': {name: {'parameters': sum(x.size for x in jax.tree.leaves(tree))}
                 for name, tree in method.frozen_spec.items()},
      'batch': _shapes(method.batch_spec)}
  return found | ({'step': step_cost(program, program.compile())} if compile_step else {})


def step_cost(program: Program, step: Step) -> dict[str, int]:
  """What one step needs of one device; a key is missing where the backend does not report it.

  flops: additions and multiplications of the step as it is written, before the compiler optimizes
    it. Comparisons, selections and conversions count as one per element, transcendental functions
    as none. A scan counts as often as it runs, a `while` loop once.
  bytes_accessed: what the kernels of the compiled step read and write, the body of a loop once.
  loops: how many scans are not unrolled, so that bytes_accessed is only a lower bound; missing if
    none.
  argument_bytes, temp_bytes: memory of the largest round, see `Step.memory`.
  """
  found = {'flops': flops(program)}
  costs = [run.cost_analysis() for run in step.rounds]
  if all(costs):
    found['bytes_accessed'] = round(sum(cost['bytes accessed'] for cost in costs))
  if loops := sum(turns > counted for run in program.trace()
                  for turns, counted, _ in _scans(run.jaxpr.jaxpr)):
    found['loops'] = loops
  if memory := step.memory():
    found |= {'argument_bytes': memory.arguments, 'temp_bytes': memory.temporaries}
  return found


def flops(program: Program) -> int:
  """Floating-point operations of one step on one device, as in `step_cost`."""
  total = sum(run.lower().cost_analysis()['flops'] + _repeated(run.jaxpr.jaxpr)
              for run in program.trace())
  return round(total / program.mesh.size)


def _repeated(jaxpr: Jaxpr) -> float:
  """FLOPs of all turns of scans but those that XLA counts."""
  jaxpr, _ = partial_eval.dce_jaxpr(jaxpr, len(jaxpr.outvars) * [True])
  total = 0.0
  for turns, counted, body in _scans(jaxpr):
    args = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in body.in_avals]
    turn = jax.jit(jaxpr_as_fun(body)).lower(*args).cost_analysis()['flops']
    total += (turns - counted) * turn + turns * _repeated(body.jaxpr)
  return total


def _scans(jaxpr: Jaxpr) -> Iterator[tuple[int, int, ClosedJaxpr]]:
  """Turns, how many of them XLA counts, and body of every scan that is not inside another one.

  XLA counts a loop's body once. JAX writes the body of an unrolled scan several times, and the
  turns that are left over once more each, behind the loop.
  """
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == 'scan':
      turns, unrolled = eqn.params['length'], eqn.params['unroll'] or eqn.params['length']
      yield turns, min(turns, unrolled + turns % max(unrolled, 1)), eqn.params['jaxpr']
      continue
    for value in jax.tree.leaves(list(eqn.params.values())):
      if isinstance(value, Jaxpr | ClosedJaxpr):
        yield from _scans(getattr(value, 'jaxpr', value))


def table(found: dict[str, Any]) -> str:
  """The facts as text, one per line."""
  lines = [f'{programs.TITLES.get(name, name)}: {facts["parameters"]:,} parameters'
           for name, facts in found['networks'].items()]
  lines += [f'frozen {name}: {facts["parameters"]:,} parameters'
            for name, facts in found.get('frozen', {}).items()]
  lines += [f'batch {name}: {shape}' for name, shape in found.get('batch', {}).items()]
  step = found.get('step', {})
  if step:
    traffic = ''
    if 'bytes_accessed' in step:
      least = 'at least ' if 'loops' in step else ''
      traffic = f', {least}{step["bytes_accessed"] / 1e9:,.1f} GB of memory traffic'
    lines.append(f'one step: {step["flops"] / 1e9:,.1f} GFLOP{traffic} per device')
  if 'temp_bytes' in step:
    lines.append(f'memory: {step["argument_bytes"] / 1e6:,.0f} MB for state, weights and batch, '
                 f'{step["temp_bytes"] / 1e6:,.0f} MB temporary, per device')
  return '\n'.join(lines)


def _shapes(tree) -> dict[str, str]:
  return {jax.tree_util.keystr(path, simple=True, separator='/'):
          f'{leaf.dtype}[{", ".join(map(str, leaf.shape))}]'
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
