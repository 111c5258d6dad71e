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
  value: Any  # what a `SharedFakes` gave
  vjp_fn: Callable[[Any], Tree]  # cotangents of `value` -> gradient of its network's parameters


def run_shared_forward(
  shared: SharedFakes, state: TrainState, frozen: dict[str, Tree], batch: Batch, rng: Array
) -> tuple[TrainState, SharedOutput]:
  """What `shared` gives, with its pull to its network's parameters; the network's stats move.

  Left to themselves, two phases would each compute it, and whether a compiler then sees that it is
  the same hangs on how it rewrites either.
  """
  params, stats, network = *_trees(state), shared.network

  def run(own):
    with jax.named_scope('shared'):
      return shared.run(params | {network: own}, stats, frozen, batch, rng)

  value, vjp_fn, new_stats = jax.vjp(run, params[network], has_aux=True)
  networks = state.networks | {network: state.networks[network].replace(stats=new_stats)}
  return state.replace(networks=networks), SharedOutput(value, lambda toward: vjp_fn(toward)[0])


def run_phase(phase: Phase, optimizers: dict[str, optax.GradientTransformation],
              state: TrainState, frozen: dict[str, Tree], batch: Batch, rng: Array,
              generated: SharedOutput | None = None) -> tuple[TrainState, Metrics]:
  """One forward pass, then one pull of its vector-Jacobian product per updated network.

  generated: of `phase.shared`, if it has one. Metrics: what the forward pass says, and of each
  network the loss and the largest entry of its gradient. Where one of these is not finite, weights
  and optimisers stay as they are.
  """
  params, stats = _trees(state)

  def losses(updated, *generated):
    with jax.named_scope(phase.name):
      outcome = phase.forward(params | updated, stats, frozen, batch, rng, *generated)
    return outcome.losses, (outcome.stats, outcome.metrics)

  values, vjp_fn, (new_stats, metrics) = jax.vjp(
    losses,
    {name: params[name] for name in phase.updates},
    *([generated.value] if generated else []),
    has_aux=True,
  )
  grads, grad_max = {}, {}
  done = jnp.float32(0)
  for name in phase.updates:
    # Adding 0 * done lets this pull begin when the one before has ended, so that what that one
    # alone needs is out of memory by then.
    seeds = {n: jnp.full_like(v, float(n == name)) + 0 * done for n, v in values.items()}
    own, *toward = vjp_fn(seeds)
    grads[name] = own[name]
    if generated and name == phase.shared.network:
      grads[name] = jax.tree.map(jnp.add, own[name], generated.vjp_fn(*toward))
    grad_max[name] = done = _largest(grads[name])

  def updated(networks):
    for name, network in networks.items():
      change, opt_state = optimizers[name].update(grads[name], network.opt_state, network.params)
      networks[name] = network.replace(params=optax.apply_updates(network.params, change),
                                     opt_state=opt_state)
    return networks

  # No update before the last pull has ended: weights are then free to be changed in place, and a
  # gradient that is not finite spoils nothing. A branch, since selecting would copy the moments.
  networks = state.networks | jax.lax.cond(
      jnp.isfinite(done), updated, lambda networks: networks,
      {name: state.networks[name] for name in phase.updates})
  networks = {name: p.replace(stats=new_stats.get(name, p.stats)) for name, p in networks.items()}
  metrics = metrics | {f'{name}_gradient': x for name, x in grad_max.items()}
  metrics = metrics | {f'{name}_loss': v for name, v in values.items()}
  return state.replace(networks=networks), {f'{phase.name}/{k}': v for k, v in metrics.items()}


def _trees(state: TrainState) -> tuple[dict[str, Tree], dict[str, Tree]]:
  """Parameters and statistics by network."""
  return tuple({name: getattr(p, what) for name, p in state.networks.items()}
               for what in ('params', 'stats'))


def _largest(tree: Tree) -> Array:
  """Largest absolute value of a tree's numbers; not finite where one of them is not.

  Last leaf first: names count up from a network's input, so this is the order in which a backward
  pass makes them, and a compiler that follows it frees what the late layers kept before it comes
  to the early ones. A fifth of the temporaries hangs on it.
  """
  return jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in reversed(jax.tree.leaves(tree))]))


def averaging(step: Array, ema_decay: float) -> Array:
  """The decay of the averages after `step` steps: it grows from 0.1 to `ema_decay`.

  An average over the last tenth of the training so far, until that is as long as `ema_decay` says:
  a constant decay leaves the random weights of the start in it for several times 1/(1 - ema_decay)
  steps, in which it draws nothing.
  """
  return jnp.minimum(ema_decay, (1 + step) / (10 + step))


def make_rounds(objective: Objective, optimizers: dict[str, optax.GradientTransformation],
                ema_decay: float) -> list[Callable[..., tuple[TrainState, Metrics]]]:
  """The rounds of one training step, each a function (state, frozen, batch) -> (state, metrics).

  `batch` leaves are [r, b, ...], so that taking a round never moves rows between devices; `frozen`
  holds the weights that are not trained, as an argument and never a constant of the program. The
  last round counts the step and moves the averages, see `averaging`.
  """
  def make_round(r, phases):
    last = r == len(objective.rounds) - 1

    def run(state, frozen, batch):
      rows, metrics = jax.tree.map(lambda x: x[r], batch), {}
      rng = jax.random.fold_in(jax.random.fold_in(state.rng, state.step), r)
      generated = {None: None}
      for phase in phases:
        if phase.shared not in generated:
          state, generated[phase.shared] = run_shared_forward(
            phase.shared, state, frozen, rows, rng
          )
        state, seen = run_phase(
          phase, optimizers, state, frozen, rows, rng, generated[phase.shared]
        )
        metrics |= seen
      if last:
        change = 1 - averaging(state.step, ema_decay)
        ema = {name: optax.incremental_update(state.networks[name].params, old, change)
               for name, old in state.ema.items()}
        state = state.replace(step=state.step + 1, ema=ema)
      return state, metrics
    return run
  return [make_round(r, phases) for r, phases in enumerate(objective.rounds)]


def in_turn(rounds: Sequence[Callable]) -> Callable[..., tuple[TrainState, Metrics]]:
  """The training step (state, frozen, batch) -> (state, metrics) that its rounds make."""
  def train_step(state, frozen, batch):
    metrics = {}
    for run in rounds:
      state, seen = run(state, frozen, batch)
      metrics |= seen
    return state, metrics
  return train_step
