"""From a backbone and terms to a phase of the engine."""
from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from xmc_jax.branch import Backbone
from xmc_jax.engine.objective import Outcome, Phase
from xmc_jax.objectives.parts import WHOLE, Parts, in_parts
from xmc_jax.objectives.splits import one_view
from xmc_jax.objectives.terms import Branches, Term
from xmc_jax.types import Array, Batch, UserError


def play(name: str, updates: tuple[str, ...], backbone: Backbone,
         terms: dict[str, tuple[Term, ...]], *,
         split: Callable[[Batch], tuple[Batch, ...]] = one_view, parts: Parts = WHOLE,
         moves: tuple[str, ...] | None = None,
         meters: Callable[[Branches], dict[str, Array]] = lambda branches: {}) -> Phase:
  """Phase whose loss of each updated player is the weighted sum of its terms over the branches.

  Branches are run one after the other, threading statistics, each in `parts` of its rows; terms see
  all rows. A term of weight 0 is not built. UserError if that leaves a player none.
  moves: players whose statistics this phase moves, None for all; where phases share fakes, only one
  of them should move the generator's.
  Metrics: `player/term` (weighted, as it enters the loss) and `accuracy/meter`.
  """
  for player in updates:
    if not any(term.weight for term in terms[player]):
      raise UserError(f'config.terms: every term of the player {player!r} has weight 0; give one '
                      'of them a weight')

  def value(term, branches):
    with jax.named_scope(term.name):      # so that profiles tell what a term costs
      return term.weight * term.value(branches)

  def forward(params, stats, frozen, batch, rng):
    branches = []
    for i, rows in enumerate(split(batch)):
      rngs = jax.random.split(jax.random.fold_in(rng, i), len(jax.tree.leaves(rows)[0]))
      branch, stats = in_parts(backbone.stage, parts)(params, stats, frozen, rows, rngs)
      branches.append(branch)
    branches = tuple(branches)
    values = {player: {t.name: value(t, branches) for t in terms[player] if t.weight}
              for player in updates}
    losses = {player: functools.reduce(jnp.add, named.values()) for player, named in values.items()}
    metrics = {f'{player}/{k}': v for player, named in values.items() for k, v in named.items()}
    with jax.named_scope('meters'):
      metrics |= {f'accuracy/{k}': v for k, v in meters(branches).items()}
    moved = stats if moves is None else {player: stats[player] for player in moves}
    return Outcome(losses, moved, metrics)
  return Phase(name, updates, forward)
