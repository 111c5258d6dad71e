"""Sharding of the training state over devices, as in ZeRO (arXiv 1910.02054)."""
from __future__ import annotations

import jax

from xmc_jax.training.mesh import replicated
from xmc_jax.training.state import TrainState

# What each value of `shard` divides among the devices.
CHOICES = {'nothing': (), 'optimizer': ('opt_state', 'ema'),
           'parameters': ('opt_state', 'ema', 'params')}
_SMALL = 2 ** 12        # elements; sharding smaller arrays saves nothing


def state_shardings(spec: TrainState, mesh: jax.sharding.Mesh, shard: str) -> TrainState:
  """The sharding of every leaf of `spec`, the shapes of the state.

  shard: what is divided: 'nothing'; 'optimizer', the moments and averages; or 'parameters', the
    parameters as well. XLA gathers a sharded array where it needs the whole, and reduce-scatters
    its gradient.
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
  """Along the longest axis that the devices divide evenly; other and small arrays stay whole."""
  fitting = [axis for axis, size in enumerate(x.shape) if size % mesh.size == 0]
  if not fitting or x.size < _SMALL:
    return replicated(mesh)
  longest = max(fitting, key=lambda axis: x.shape[axis])
  return jax.NamedSharding(mesh, jax.P(*[None] * longest, 'data'))
