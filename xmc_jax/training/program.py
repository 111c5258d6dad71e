"""The compiled training program, built from shapes alone."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent import futures
from typing import NamedTuple

import jax
import optax

from xmc_jax.training.mesh import by_row, put_whole, replicated
from xmc_jax.training.objective import Objective
from xmc_jax.training.sharding import state_shardings
from xmc_jax.training.state import TrainState, init_state
from xmc_jax.training.step import Metrics, in_turn, make_rounds
from xmc_jax.types import Tree

# By platform. Otherwise XLA orders operations on CPUs for concurrency, with twice the memory.
_OPTIONS = {'cpu': {'xla_cpu_scheduler_type': 'CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED'}}


class Program:
  """Initialization and training step of an objective over a mesh.

  frozen_spec, batch_spec: ShapeDtypeStructs of the weights that are not trained, and of the batch
    of one step with leaves [r, b, ...].
  shard: what of the state is divided among devices, see `sharding.py`.
  state_spec: an attribute, the ShapeDtypeStructs of the state with their shardings.
  """

  def __init__(self, objective: Objective, optimizers: dict[str, optax.GradientTransformation],
               ema_decay: float, frozen_spec: Tree, batch_spec: Tree, mesh: jax.sharding.Mesh,
               shard: str = 'nothing'):
    self.mesh = mesh
    self.rows = by_row(mesh)
    self._everywhere = replicated(mesh)
    placed = lambda tree, sharding: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    def init(rng):
      one_round = {k: jax.numpy.zeros(v.shape[1:], v.dtype) for k, v in batch_spec.items()}
      return init_state(objective, optimizers, rng, one_round)

    shapes = jax.eval_shape(init, jax.random.key(0))
    places = state_shardings(shapes, mesh, shard)
    # It runs once: optimizing its many random numbers takes longer than it saves.
    self._init = jax.jit(init, out_shardings=places, compiler_options={
        'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True})
    self.state_spec = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, places)
    self._frozen_spec = placed(frozen_spec, self._everywhere)
    self._batch_spec = placed(batch_spec, self.rows)
    platform = mesh.devices.flat[0].platform
    self._rounds = [jax.jit(run, donate_argnums=0, out_shardings=(places, self._everywhere),
                            compiler_options=_OPTIONS.get(platform))
                    for run in make_rounds(objective, optimizers, ema_decay)]

  def init(self, seed: int) -> TrainState:
    return self._init(jax.random.key(seed))

  def put_frozen(self, frozen: Tree) -> Tree:
    return put_whole(frozen, self._everywhere)

  def trace(self) -> list[jax.stages.Traced]:
    """The traced rounds of the step, each (state, frozen, batch) -> (state, metrics)."""
    return [run.trace(self.state_spec, self._frozen_spec, self._batch_spec)
            for run in self._rounds]

  def compile(self) -> Step:
    lowered = [run.lower() for run in self.trace()]
    with futures.ThreadPoolExecutor() as pool:       # compiling releases the GIL
      rounds = list(pool.map(lambda run: run.compile(), lowered))
    # JAX runs a function operation by operation, to find a NaN or with JAX_DISABLE_JIT; not a
    # compiled program.
    by_operation = jax.config.jax_debug_nans or jax.config.jax_disable_jit
    return Step(rounds, self._rounds if by_operation else rounds)


class Memory(NamedTuple):
  """Bytes that a compiled program uses on each device."""
  arguments: int       # of a training step: state, frozen weights and batch
  temporaries: int     # everything that is computed and dropped again


class Step:
  """The compiled step (state, frozen, batch) -> (state, metrics); it donates `state`.

  `called` are the rounds that run: `rounds`, or functions that compile to them.

  Each round is a program of its own, so that the optimizer works in place: one program with several
  updates of a network would hold all intermediate states in memory.
  """

  def __init__(self, rounds: Sequence[jax.stages.Compiled], called: Sequence[Callable]):
    self.rounds = rounds
    self._run = in_turn(called)

  def __call__(self, state: TrainState, frozen: Tree, batch: Tree) -> tuple[TrainState, Metrics]:
    return self._run(state, frozen, batch)

  def memory(self) -> Memory | None:
    """The memory of the largest round, as the backend reports it; None where it does not."""
    found = [run.memory_analysis() for run in self.rounds]
    if None in found:
      return None
    return max((Memory(x.argument_size_in_bytes, x.temp_size_in_bytes) for x in found), key=sum)


TITLES = {'g': 'generator', 'd': 'discriminator'}      # of networks, for people


def parameters(state: TrainState) -> dict[str, int]:
  """Number of trainable parameters by network; `state` may be shapes only."""
  return {name: sum(x.size for x in jax.tree.leaves(network.params))
          for name, network in state.networks.items()}
