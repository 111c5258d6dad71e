"""The size and the cost of a config's training step, for `xmc describe`."""
from __future__ import annotations

from typing import Any

import jax
import ml_collections

from xmc_jax import methods
from xmc_jax.analysis import cost as costs
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
  meshes.check_rows(config.batch_size, mesh)
  method = methods.build(config)
  program = methods.program(method, config, mesh)
  found = facts(program, program.compile() if compile_step else None)
  for name, network in program.state_spec.networks.items():
    found['networks'][name]['shapes'] = _shapes(network.params)
  found['frozen'] = {name: {'parameters': sum(x.size for x in jax.tree.leaves(tree))}
                     for name, tree in method.frozen_spec.items()}
  found['batch'] = _shapes(method.batch_spec)
  return found


def facts(program: Program, step: Step | None) -> dict[str, Any]:
  """The parameters of each network and, if compiled, the cost of a step on one device."""
  found = {'networks': {name: {'parameters': n}
                       for name, n in programs.parameters(program.state_spec).items()}}
  return found | ({'step': costs.step_cost(step.rounds)} if step else {})


def table(found: dict[str, Any]) -> str:
  """The facts as text, one per line."""
  lines = [f'{programs.TITLES.get(name, name)}: {facts["parameters"]:,} parameters'
           for name, facts in found['networks'].items()]
  lines += [f'frozen {name}: {facts["parameters"]:,} parameters'
            for name, facts in found.get('frozen', {}).items()]
  lines += [f'batch {name}: {shape}' for name, shape in found.get('batch', {}).items()]
  step = found.get('step', {})
  if step:
    lines.append(_cost_line(step))
  if 'temp_bytes' in step:
    lines.append(f'memory: {step["argument_bytes"] / 1e6:,.0f} MB for state, weights and batch, '
                 f'{step["temp_bytes"] / 1e6:,.0f} MB temporary, per device')
  return '\n'.join(lines)


def _cost_line(step: dict[str, Any]) -> str:
  """What one step computes, reads and writes; a lower bound where not all of it is counted."""
  if step['flops'] is None:
    return 'one step: unknown FLOP, as the text of the compiled program could not be read'
  missing = [f'{n} loops of unknown length' for n in [step.get('unknown_loops')] if n]
  missing += step.get('uncounted', [])
  least = 'at least ' if missing else ''
  line = (f'one step: {least}{step["flops"] / 1e9:,.1f} GFLOP, '
          f'{step["bytes_accessed"] / 1e9:,.1f} GB of memory traffic per device')
  return f'{line} (not counted: {", ".join(missing)})' if missing else line


def _shapes(tree) -> dict[str, str]:
  return {jax.tree_util.keystr(path, simple=True, separator='/'):
          f'{leaf.dtype}[{", ".join(map(str, leaf.shape))}]'
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
