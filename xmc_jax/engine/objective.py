"""What a training step consists of, as data: phases in rounds."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from xmc_jax.types import Array, Batch


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a phase's forward pass says."""
  losses: dict[str, Array]    # {player: scalar}
  stats: dict[str, Any]       # {player: new stats}; a missing player keeps its own
  metrics: dict[str, Array]   # {name: scalar}


@dataclasses.dataclass(frozen=True)
class Draw:
  """What phases of a round share: computed once before them, and differentiated once.

  run: (params, stats, frozen, batch, rng) -> (any tree of arrays, the player's new stats), which
  may depend on the parameters of `player` alone.
  """
  player: str
  run: Callable[..., tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Phase:
  """One optimiser step of the players `updates`.

  forward: (params, stats, frozen, batch, rng) -> Outcome, where params and stats are
  `{player: tree}` and batch leaves are [b, ...]. With a `draw`, what that gave is a last argument.
  """
  name: str
  updates: tuple[str, ...]
  forward: Callable[..., Outcome]
  draw: Draw | None = None


@dataclasses.dataclass(frozen=True)
class Objective:
  """`rounds[r]` shares one slice of data and one rng, so its phases see the same fakes.

  init: (rng, batch) -> {player: variables}. averaged: players with an exponential moving average.
  ValueError if a phase would see a draw of parameters that another has updated since.
  """
  rounds: tuple[tuple[Phase, ...], ...]
  init: Callable[[Array, Batch], dict[str, Any]]
  averaged: tuple[str, ...] = ()

  def __post_init__(self):
    for phases in self.rounds:
      for i, phase in enumerate(phases):
        before = [name for earlier in phases[:i] for name in earlier.updates]
        if phase.draw and phase.draw.player in before:
          raise ValueError(f'phase {phase.name!r}: its draw is of {phase.draw.player!r}, which a '
                           'phase before it updates')

  @property
  def players(self) -> tuple[str, ...]:
    names = [name for phases in self.rounds for phase in phases for name in phase.updates]
    return tuple(dict.fromkeys(names))
