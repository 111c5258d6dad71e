"""The size and the cost of a config's training step, for `xmc describe` and before training."""
from __future__ import annotations

from typing import Any

import jax
import ml_collections

from xmc_jax import methods
from xmc_jax.training import mesh as meshes
from xmc_jax.training import program as programs
from xmc_jax.training.program import Program, Step

_NAMES = {'g': 'generator', 'd': 'discriminator'}


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
  return found | ({'step': step.cost()} if step else {})


def table(found: dict[str, Any]) -> str:
  """The facts as text, one per line."""
  lines = [f'{_NAMES.get(name, name)}: {facts["parameters"]:,} parameters'
           for name, facts in found['networks'].items()]
  lines += [f'frozen {name}: {facts["parameters"]:,} parameters'
            for name, facts in found.get('frozen', {}).items()]
  lines += [f'batch {name}: {shape}' for name, shape in found.get('batch', {}).items()]
  step = found.get('step', {})
  if 'flops' in step:
    lines.append(f'one step: {step["flops"] / 1e9:,.1f} GFLOP, '
                 f'{step.get("bytes_accessed", 0) / 1e9:,.1f} GB of memory traffic per device')
  if 'temp_bytes' in step:
    lines.append(f'memory: {step["argument_bytes"] / 1e6:,.0f} MB for state, weights and batch, '
                 f'{step["temp_bytes"] / 1e6:,.0f} MB temporary, per device')
  return '\n'.join(lines)


def devices(mesh: jax.sharding.Mesh) -> str:
  """The number and kind of the devices, and of the processes if there are several."""
  kind = mesh.devices.flat[0].device_kind
  hosts = f' in {jax.process_count()} processes' if jax.process_count() > 1 else ''
  return f'{mesh.size} device{"s" if mesh.size > 1 else ""} ({kind}){hosts}'


def _shapes(tree) -> dict[str, str]:
  return {jax.tree_util.keystr(path, simple=True, separator='/'):
          f'{leaf.dtype}[{", ".join(map(str, leaf.shape))}]'
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
