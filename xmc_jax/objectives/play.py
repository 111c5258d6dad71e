"""From a backbone and terms to a phase of the engine."""
from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from xmc_jax.branch import Backbone
from xmc_jax.engine.objective import Outcome, Phase
from xmc_jax.objectives.splits import one_view
from xmc_jax.objectives.terms import Branches, Term
from xmc_jax.types import Array, Batch, UserError


def play(name: str, updates: tuple[str, ...], backbone: Backbone,
         terms: dict[str, tuple[Term, ...]], *,
         split: Callable[[Batch], tuple[Batch, ...]] = one_view,
         meters: Callable[[Branches], dict[str, Array]] = lambda branches: {}) -> Phase:
  """Phase whose loss of each updated player is the weighted sum of its terms over the branches.

  Branches are run one after the other, threading statistics. A term of weight 0 is not built.
  UserError if that leaves a player none.
  Metrics: `player/term` (weighted, as it enters the loss) and `accuracy/meter`.
  """
  for player in updates:
    if not any(term.weight for term in terms[player]):
      raise UserError(f'config.terms: every term of the player {player!r} has weight 0; give one '
                      'of them a weight')

  def forward(params, stats, frozen, batch, rng):
    branches = []
    for i, rows in enumerate(split(batch)):
      branch, stats = backbone.stage(params, stats, frozen, rows, jax.random.fold_in(rng, i))
      branches.append(branch)
    branches = tuple(branches)
    values = {player: {t.name: t.weight * t.value(branches) for t in terms[player] if t.weight}
              for player in updates}
    losses = {player: functools.reduce(jnp.add, named.values()) for player, named in values.items()}
    metrics = {f'{player}/{k}': v for player, named in values.items() for k, v in named.items()}
    metrics |= {f'accuracy/{k}': v for k, v in meters(branches).items()}
    return Outcome(losses, stats, metrics)
  return Phase(name, updates, forward)
