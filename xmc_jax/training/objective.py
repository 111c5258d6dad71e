"""What a training step consists of, as data: phases in rounds."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from xmc_jax.types import Array, Batch


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a phase's forward pass says."""
  losses: dict[str, Array]    # {network: scalar}
  stats: dict[str, Any]       # {network: new stats}; a missing network keeps its own
  metrics: dict[str, Array]   # {name: scalar}


@dataclasses.dataclass(frozen=True)
class SharedFakes:
  """What phases of a round share: computed once before them, and differentiated once.

  run: (params, stats, frozen, batch, rng) -> (any tree of arrays, the network's new stats), which
  may depend on the parameters of `network` alone.
  """
  network: str
  run: Callable[..., tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Phase:
  """One optimiser step of the networks `updates`.

  forward: (params, stats, frozen, batch, rng) -> Outcome, where params and stats are
  `{network: tree}` and batch leaves are [b, ...]. With a `shared`, what that gave is a last
  argument.
  """
  name: str
  updates: tuple[str, ...]
  forward: Callable[..., Outcome]
  shared: SharedFakes | None = None


@dataclasses.dataclass(frozen=True)
class Objective:
  """`rounds[r]` shares one slice of data and one rng, so its phases see the same fakes.

  init: (rng, batch) -> {network: variables}. averaged: networks with an exponential moving average.
  ValueError if a phase would see a shared of parameters that another has updated since.
  """
  rounds: tuple[tuple[Phase, ...], ...]
  init: Callable[[Array, Batch], dict[str, Any]]
  averaged: tuple[str, ...] = ()

  def __post_init__(self):
    for phases in self.rounds:
      for i, phase in enumerate(phases):
        before = [name for earlier in phases[:i] for name in earlier.updates]
        if phase.shared and phase.shared.network in before:
          raise ValueError(
            f'phase {phase.name!r}: its shared is of {phase.shared.network!r}, which a '
            'phase before it updates'
          )

  @property
  def networks(self) -> tuple[str, ...]:
    names = [name for phases in self.rounds for phase in phases for name in phase.updates]
    return tuple(dict.fromkeys(names))
