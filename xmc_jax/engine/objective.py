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
class Phase:
  """One optimiser step of the players `updates`.

  forward: (params, stats, frozen, batch, rng) -> Outcome, where params and stats are
  `{player: tree}` and batch leaves are [b, ...].
  """
  name: str
  updates: tuple[str, ...]
  forward: Callable[..., Outcome]


@dataclasses.dataclass(frozen=True)
class Objective:
  """`rounds[r]` shares one slice of data and one rng, so its phases see the same fakes.

  init: (rng, batch) -> {player: variables}. averaged: players with an exponential moving average.
  """
  rounds: tuple[tuple[Phase, ...], ...]
  init: Callable[[Array, Batch], dict[str, Any]]
  averaged: tuple[str, ...] = ()

  @property
  def players(self) -> tuple[str, ...]:
    names = [name for phases in self.rounds for phase in phases for name in phase.updates]
    return tuple(dict.fromkeys(names))
