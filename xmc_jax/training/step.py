"""The training step: the only place that differentiates with respect to parameters."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from xmc_jax.training.objective import Objective, Phase, SharedFakes
from xmc_jax.training.state import TrainState
from xmc_jax.types import Array, Batch, Tree

Metrics = dict[str, Array]


class SharedOutput(NamedTuple):
  value: Any                        # what `SharedFakes.run` returned
  vjp_fn: Callable[[Any], Tree]     # cotangents of `value` -> gradients of its network's parameters


def run_shared_forward(shared: SharedFakes, state: TrainState, frozen: dict[str, Tree],
                       batch: Batch, rng: Array) -> tuple[TrainState, SharedOutput]:
  """Runs the shared forward pass and updates the statistics of its network.

  Without this, each phase would generate the fakes for itself. XLA might merge the two, but nothing
  guarantees that.
  """
  params, stats, network = *_trees(state), shared.network

  def run(own):
    with jax.named_scope('shared'):
      return shared.run(params | {network: own}, stats, frozen, batch, rng)

  value, vjp_fn, new_stats = jax.vjp(run, params[network], has_aux=True)
  networks = state.networks | {network: state.networks[network].replace(stats=new_stats)}
  return state.replace(networks=networks), SharedOutput(value, lambda seed: vjp_fn(seed)[0])


def run_phase(phase: Phase, optimizers: dict[str, optax.GradientTransformation],
              state: TrainState, frozen: dict[str, Tree], batch: Batch, rng: Array,
              generated: SharedOutput | None = None) -> tuple[TrainState, Metrics]:
  """One forward pass, one backward pass per updated network, then the optimizer steps.

  generated: the output of `phase.shared`, if the phase has one.

  Metrics are those of the forward pass, and for each network its loss and `grad_max`, the largest
  absolute entry of its gradient, inf if its square is. If a gradient is not finite, parameters and
  optimizer states stay as they are.
  """
  params, stats = _trees(state)

  def losses(updated, *generated):
    with jax.named_scope(phase.name):
      outcome = phase.forward(params | updated, stats, frozen, batch, rng, *generated)
    return outcome.losses, (outcome.stats, outcome.metrics)

  inputs = [generated.value] if generated else []
  values, vjp_fn, (new_stats, metrics) = jax.vjp(
      losses, {name: params[name] for name in phase.updates}, *inputs, has_aux=True)
  grads, grad_max = {}, {}
  done = jnp.float32(0)
  for name in phase.updates:
    # Adding 0 * done makes this backward pass begin after the previous one, whose own activations
    # are out of memory by then.
    seeds = {n: jnp.full_like(v, float(n == name)) + 0 * done for n, v in values.items()}
    own, *cotangents = vjp_fn(seeds)
    grads[name] = own[name]
    if generated and name == phase.shared.network:
      grads[name] = jax.tree.map(jnp.add, own[name], generated.vjp_fn(*cotangents))
    grad_max[name] = done = _largest(grads[name])

  def updated(networks):
    for name, network in networks.items():
      change, opt_state = optimizers[name].update(grads[name], network.opt_state, network.params)
      networks[name] = network.replace(params=optax.apply_updates(network.params, change),
                                     opt_state=opt_state)
    return networks

  # No update before the last backward pass has ended: parameters can then be changed in place, and
  # a gradient that is not finite does no harm. `cond`, since `where` would copy the moments.
  networks = state.networks | jax.lax.cond(
      jnp.isfinite(done), updated, lambda networks: networks,
      {name: state.networks[name] for name in phase.updates})
  networks = {name: p.replace(stats=new_stats.get(name, p.stats)) for name, p in networks.items()}
  metrics = metrics | {f'{name}_grad_max': x for name, x in grad_max.items()}
  metrics = metrics | {f'{name}_loss': v for name, v in values.items()}
  return state.replace(networks=networks), {f'{phase.name}/{k}': v for k, v in metrics.items()}


def _trees(state: TrainState) -> tuple[dict[str, Tree], dict[str, Tree]]:
  """Parameters and statistics, by network."""
  return tuple({name: getattr(p, what) for name, p in state.networks.items()}
               for what in ('params', 'stats'))


def _largest(tree: Tree) -> Array:
  """Largest absolute value in a tree; not finite if one of its values or their squares is not.

  Adam averages squares. One that is infinite would stay so, and its weight would never move again.

  Last leaf first: names count up from a network's input, so this is the order in which a backward
  pass computes the gradients. A compiler that follows it can free the activations of late layers
  before it comes to the early ones, which saves a fifth of the temporary memory.
  """
  largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in reversed(jax.tree.leaves(tree))]))
  return jnp.where(jnp.isinf(largest * largest), jnp.inf, largest)


def averaging(step: Array, ema_decay: float) -> Array:
  """The decay of the averaged parameters after `step` steps; it grows from 0.1 to `ema_decay`.

  The average covers about the last tenth of the training so far, until `ema_decay` covers less.
  With a constant decay the random initial parameters would stay in the average for several times
  1 / (1 - ema_decay) steps, during which it generates nothing useful.
  """
  return jnp.minimum(ema_decay, (1 + step) / (10 + step))


def make_rounds(objective: Objective, optimizers: dict[str, optax.GradientTransformation],
                ema_decay: float) -> list[Callable[..., tuple[TrainState, Metrics]]]:
  """The rounds of one training step, each a function (state, frozen, batch) -> (state, metrics).

  Leaves of `batch` are [r, b, ...], so that taking a round never moves examples between devices.
  `frozen` has the weights that are not trained, as an argument instead of constants of the program.
  The last round counts the step and updates the averages, see `averaging`.
  """
  def make_round(r, phases):
    last = r == len(objective.rounds) - 1

    def run(state, frozen, batch):
      rows, metrics = jax.tree.map(lambda x: x[r], batch), {}
      rng = jax.random.fold_in(jax.random.fold_in(state.rng, state.step), r)
      generated = {None: None}
      for phase in phases:
        if phase.shared not in generated:
          state, generated[phase.shared] = run_shared_forward(phase.shared, state, frozen, rows,
                                                              rng)
        state, found = run_phase(phase, optimizers, state, frozen, rows, rng,
                                 generated[phase.shared])
        metrics |= found
      if last:
        change = 1 - averaging(state.step, ema_decay)
        ema = {name: optax.incremental_update(state.networks[name].params, old, change)
               for name, old in state.ema.items()}
        state = state.replace(step=state.step + 1, ema=ema)
      return state, metrics
    return run
  return [make_round(r, phases) for r, phases in enumerate(objective.rounds)]


def in_turn(rounds: Sequence[Callable]) -> Callable[..., tuple[TrainState, Metrics]]:
  """The training step (state, frozen, batch) -> (state, metrics) that runs `rounds` in order."""
  def train_step(state, frozen, batch):
    metrics = {}
    for run in rounds:
      state, found = run(state, frozen, batch)
      metrics |= found
    return state, metrics
  return train_step
