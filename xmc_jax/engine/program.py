"""The compiled training program and its cost, from shapes alone until it runs."""
from __future__ import annotations

from typing import Any

import jax
import optax

from xmc_jax.engine.mesh import by_row, replicated
from xmc_jax.engine.objective import Objective
from xmc_jax.engine.state import TrainState, init_state
from xmc_jax.engine.step import make_train_step
from xmc_jax.types import Tree


class Program:
  """Initialisation and training step of an objective over a mesh.

  frozen_spec, batch_spec: ShapeDtypeStructs of the weights that are not trained and of one step's
  batch, leaves [r, b, ...]. `state_spec` is the state's, with shardings.
  """

  def __init__(self, objective: Objective, optimizers: dict[str, optax.GradientTransformation],
               ema_decay: float, frozen_spec: Tree, batch_spec: Tree, mesh: jax.sharding.Mesh):
    self.mesh = mesh
    self.rows = by_row(mesh)
    self._everywhere = replicated(mesh)
    placed = lambda tree, sharding: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    def init(rng):
      one_round = {k: jax.numpy.zeros(v.shape[1:], v.dtype) for k, v in batch_spec.items()}
      return init_state(objective, optimizers, rng, one_round)

    # It runs once: what optimising its many random draws costs is never earned back.
    self._init = jax.jit(init, out_shardings=self._everywhere, compiler_options={
        'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True})
    self.state_spec = placed(jax.eval_shape(init, jax.random.key(0)), self._everywhere)
    self._frozen_spec = placed(frozen_spec, self._everywhere)
    self._batch_spec = placed(batch_spec, self.rows)
    self._step = jax.jit(make_train_step(objective, optimizers, ema_decay), donate_argnums=0,
                         out_shardings=self._everywhere)

  def init(self, seed: int) -> TrainState:
    return self._init(jax.random.key(seed))

  def put_frozen(self, frozen: Tree) -> Tree:
    return jax.device_put(frozen, self._everywhere)

  def lower(self) -> jax.stages.Lowered:
    """The traced step (state, frozen, batch) -> (state, metrics), to be compiled."""
    return self._step.lower(self.state_spec, self._frozen_spec, self._batch_spec)


def parameters(state: TrainState) -> dict[str, int]:
  """Trainable parameters of every player; `state` may be shapes only."""
  return {name: sum(x.size for x in jax.tree.leaves(player.params))
          for name, player in state.players.items()}


def cost(compiled: jax.stages.Compiled) -> dict[str, Any]:
  """What one call of a compiled step needs on one device, by the compiler's own account.

  flops and bytes_accessed count a loop's body once; argument_bytes are state, frozen weights and
  batch; temp_bytes everything between. A key is missing where the backend does not tell.
  """
  analysis = compiled.cost_analysis() or {}
  memory = compiled.memory_analysis()
  found = {'flops': analysis.get('flops'), 'bytes_accessed': analysis.get('bytes accessed'),
           'argument_bytes': getattr(memory, 'argument_size_in_bytes', None),
           'temp_bytes': getattr(memory, 'temp_size_in_bytes', None)}
  return {k: int(v) for k, v in found.items() if v is not None}
