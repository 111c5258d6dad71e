"""One optimiser a player."""
from __future__ import annotations

from collections.abc import Mapping

import optax


def make_optimizers(spec: Mapping[str, Mapping[str, float]]
                    ) -> dict[str, optax.GradientTransformation]:
  """`{player: Adam}` from `{player: {'lr': ..., 'b1': ..., 'b2': ...}}`."""
  return {player: optax.adam(p['lr'], b1=p['b1'], b2=p['b2']) for player, p in spec.items()}
