"""Where the training state lies: whole on every device, or in parts (arXiv 1910.02054)."""
from __future__ import annotations

import jax

from xmc_jax.training.mesh import replicated
from xmc_jax.training.state import TrainState

# What is divided among the devices, by the names of `shard`.
CHOICES = {'nothing': (), 'optimizer': ('opt_state', 'ema'),
           'parameters': ('opt_state', 'ema', 'params')}
_SMALL = 2 ** 12        # numbers; dividing less saves nothing


def state_shardings(spec: TrainState, mesh: jax.sharding.Mesh, shard: str) -> TrainState:
  """The sharding of every leaf of the state `spec`, shapes only.

  shard: 'nothing'; 'optimizer', its moments and the averages; 'parameters', these too. The compiler
  gathers a divided array where it is needed whole, and divides the gradients' sums likewise.
  """
  divided = CHOICES[shard]
  whole = lambda tree: jax.tree.map(lambda x: replicated(mesh), tree)
  place = lambda part, tree: (jax.tree.map(lambda x: _divide(x, mesh), tree) if part in divided
                              else whole(tree))
  networks = {name: network.replace(params=place('params', network.params),
                                  stats=whole(network.stats),
                                  opt_state=place('opt_state', network.opt_state))
             for name, network in spec.networks.items()}
  return whole(spec).replace(networks=networks, ema=place('ema', spec.ema))


def _divide(x: jax.ShapeDtypeStruct, mesh: jax.sharding.Mesh) -> jax.NamedSharding:
  """Along the longest axis that the devices divide; small arrays and odd ones stay whole."""
  fitting = [axis for axis, size in enumerate(x.shape) if size % mesh.size == 0]
  if not fitting or x.size < _SMALL:
    return replicated(mesh)
  longest = max(fitting, key=lambda axis: x.shape[axis])
  return jax.NamedSharding(mesh, jax.P(*[None] * longest, 'data'))
