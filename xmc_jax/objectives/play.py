"""From a backbone and terms to a phase of the engine."""
from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from xmc_jax.branch import Backbone, Shared
from xmc_jax.engine.objective import Draw, Outcome, Phase
from xmc_jax.objectives.parts import WHOLE, Parts, in_parts
from xmc_jax.objectives.splits import one_view
from xmc_jax.objectives.terms import Branches, Term
from xmc_jax.types import Array, Batch, UserError


def play(name: str, updates: tuple[str, ...], backbone: Backbone | Shared,
         terms: dict[str, tuple[Term, ...]], *,
         split: Callable[[Batch], tuple[Batch, ...]] = one_view, parts: Parts = WHOLE,
         draw: Draw | None = None,
         meters: Callable[[Branches], dict[str, Array]] = lambda branches: {}) -> Phase:
  """Phase whose loss of each updated player is the weighted sum of its terms over the branches.

  Branches are run one after the other, threading statistics, each in `parts` of its rows; terms see
  all rows. A term of weight 0 is not built. UserError if that leaves a player none.
  draw: of `drawing`, where phases share fakes; then a phase moves the statistics of the players
  that it updates alone, and `split` and `parts` are not looked at.
  Metrics: `player/term` (weighted, as it enters the loss) and `accuracy/meter`.
  """
  for player in updates:
    if not any(term.weight for term in terms[player]):
      raise UserError(f'config.terms: every term of the player {player!r} has weight 0; give one '
                      'of them a weight')

  def value(term, branches):
    with jax.named_scope(term.name):      # so that profiles tell what a term costs
      return term.weight * term.value(branches)

  run = backbone.judge if draw else in_parts(backbone.stage, parts)

  def forward(params, stats, frozen, batch, rng, drawn=()):
    branches = []
    for view in drawn if draw else _views(split, batch, rng):
      branch, stats = run(params, stats, frozen, *view)
      branches.append(branch)
    branches = tuple(branches)
    values = {player: {t.name: value(t, branches) for t in terms[player] if t.weight}
              for player in updates}
    losses = {player: functools.reduce(jnp.add, named.values()) for player, named in values.items()}
    metrics = {f'{player}/{k}': v for player, named in values.items() for k, v in named.items()}
    with jax.named_scope('meters'):
      metrics |= {f'accuracy/{k}': v for k, v in meters(branches).items()}
    moved = {player: stats[player] for player in updates} if draw else stats
    return Outcome(losses, moved, metrics)
  return Phase(name, updates, forward, draw)


def drawing(backbone: Shared, split: Callable[[Batch], tuple[Batch, ...]] = one_view) -> Draw:
  """The fakes of the generator "g" that phases of one round share, one view after the other."""
  def run(params, stats, frozen, batch, rng):
    drawn = []
    for view in _views(split, batch, rng):
      one, stats = backbone.draw(params, stats, frozen, *view)
      drawn.append((one,))
    return drawn, stats['g']
  return Draw('g', run)


def _views(split: Callable[[Batch], tuple[Batch, ...]], batch: Batch,
           rng: Array) -> list[tuple[Batch, Array]]:
  """Views of the batch, each with a random key for every row."""
  return [(rows, jax.random.split(jax.random.fold_in(rng, i), len(jax.tree.leaves(rows)[0])))
          for i, rows in enumerate(split(batch))]
