"""The training step: the only place that differentiates with respect to parameters."""
from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from xmc_jax.engine.objective import Objective, Phase
from xmc_jax.engine.state import TrainState
from xmc_jax.types import Array, Batch, Tree

Metrics = dict[str, Array]


def run_phase(phase: Phase, optimizers: dict[str, optax.GradientTransformation],
              state: TrainState, frozen: dict[str, Tree], batch: Batch,
              rng: Array) -> tuple[TrainState, Metrics]:
  """One forward pass, then one pull of its vector-Jacobian product per updated player."""
  params = {name: p.params for name, p in state.players.items()}
  stats = {name: p.stats for name, p in state.players.items()}

  def losses(params):
    outcome = phase.forward(params, stats, frozen, batch, rng)
    return outcome.losses, (outcome.stats, outcome.metrics)

  values, pull, (new_stats, metrics) = jax.vjp(losses, params, has_aux=True)
  players = {name: p.replace(stats=new_stats.get(name, p.stats))
             for name, p in state.players.items()}
  for name in phase.updates:
    one_hot = {n: jnp.full_like(v, float(n == name)) for n, v in values.items()}
    grads = pull(one_hot)[0][name]
    updates, opt_state = optimizers[name].update(grads, players[name].opt_state, params[name])
    players[name] = players[name].replace(
        params=optax.apply_updates(params[name], updates), opt_state=opt_state)
  metrics = metrics | {f'{name}_loss': v for name, v in values.items()}
  return state.replace(players=players), {f'{phase.name}/{k}': v for k, v in metrics.items()}


def make_train_step(objective: Objective, optimizers: dict[str, optax.GradientTransformation],
                    ema_decay: float) -> Callable[..., tuple[TrainState, Metrics]]:
  """The function (state, frozen, batch) -> (state, metrics) of one training step.

  `batch` leaves are [r, b, ...], so that taking a round never moves rows between devices; `frozen`
  holds the weights that are not trained, as an argument and never a constant of the program.
  """
  def train_step(state, frozen, batch):
    step_rng, metrics = jax.random.fold_in(state.rng, state.step), {}
    for r, phases in enumerate(objective.rounds):
      rows = jax.tree.map(lambda x: x[r], batch)
      rng = jax.random.fold_in(step_rng, r)
      for phase in phases:
        state, seen = run_phase(phase, optimizers, state, frozen, rows, rng)
        metrics |= seen
    ema = {name: optax.incremental_update(state.players[name].params, old, 1 - ema_decay)
           for name, old in state.ema.items()}
    return state.replace(step=state.step + 1, ema=ema), metrics
  return train_step
