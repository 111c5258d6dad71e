"""The training state: everything that is carried from step to step and saved in a checkpoint."""
from __future__ import annotations

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from xmc_jax.training.objective import Objective
from xmc_jax.types import Array, Batch, Tree


@flax.struct.dataclass
class NetworkState:
  """The state of one network that has its own optimizer."""
  params: Tree
  stats: Tree       # every collection that is not `params`: batch_stats, spectral, ...
  opt_state: Any


@flax.struct.dataclass
class TrainState:
  step: Array                  # int32, number of finished steps
  rng: Array                   # typed key; the key of step s is fold_in(rng, s)
  networks: dict[str, NetworkState]
  ema: dict[str, Tree]         # {network: averaged params}


def init_state(objective: Objective, optimizers: dict[str, optax.GradientTransformation],
               rng: Array, batch: Batch) -> TrainState:
  """The state before the first step. Leaves of `batch` are [b, ...]; only shapes matter."""
  init_rng, run_rng = jax.random.split(rng)
  networks = {}
  for name, variables in objective.init(init_rng, batch).items():
    stats = {k: v for k, v in variables.items() if k != 'params'}
    params = variables['params']
    networks[name] = NetworkState(params, stats, optimizers[name].init(params))
  ema = {name: jax.tree.map(jnp.copy, networks[name].params) for name in objective.averaged}
  return TrainState(jnp.zeros((), jnp.int32), run_rng, networks, ema)
