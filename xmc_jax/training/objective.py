"""What a training step consists of, as data: phases in rounds."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from xmc_jax.types import Array, Batch


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The result of the forward pass of a phase."""
  losses: dict[str, Array]    # {network: scalar}
  stats: dict[str, Any]       # {network: new statistics}; those of a missing network stay
  metrics: dict[str, Array]   # {name: scalar}


@dataclasses.dataclass(frozen=True)
class SharedFakes:
  """Fakes that the phases of a round share: generated once before them, and differentiated once.

  run: (params, stats, frozen, batch, rng) -> (any tree of arrays, new statistics of `network`). Of
    the parameters it may only depend on those of `network`.
  """
  network: str
  run: Callable[..., tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Phase:
  """One optimizer step of the networks `updates`.

  forward: (params, stats, frozen, batch, rng) -> Outcome, where params and stats are
    `{network: tree}` and leaves of the batch are [b, ...]. If there is `shared`, its output is one
    more argument.
  """
  name: str
  updates: tuple[str, ...]
  forward: Callable[..., Outcome]
  shared: SharedFakes | None = None


@dataclasses.dataclass(frozen=True)
class Objective:
  """The phases of a training step, by rounds.

  rounds: the phases of a round share one slice of the data and one random key, so they see the same
    fakes.
  init: (rng, batch) -> {network: variables}.
  averaged: networks with an exponential moving average of their parameters.

  Raises ValueError if a phase shares fakes of a network that an earlier phase of its round updates,
  or if phases of a round share fakes of one network but not the same ones.
  """
  rounds: tuple[tuple[Phase, ...], ...]
  init: Callable[[Array, Batch], dict[str, Any]]
  averaged: tuple[str, ...] = ()

  def __post_init__(self):
    for phases in self.rounds:
      shared = {phase.shared for phase in phases if phase.shared}
      if len({fakes.network for fakes in shared}) < len(shared):
        raise ValueError('phases of a round share different fakes of one network; make one '
                         'SharedFakes and give it to all of them')
      for i, phase in enumerate(phases):
        before = [name for earlier in phases[:i] for name in earlier.updates]
        if phase.shared and phase.shared.network in before:
          raise ValueError(f'phase {phase.name!r}: it shares fakes of {phase.shared.network!r}, '
                           'which an earlier phase updates')

  @property
  def networks(self) -> tuple[str, ...]:
    names = [name for phases in self.rounds for phase in phases for name in phase.updates]
    return tuple(dict.fromkeys(names))
