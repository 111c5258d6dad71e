"""Methods: the one place where a family's networks, losses and step order are put together."""
from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterable

import jax
import ml_collections
from etils import epath

from xmc_jax.data.text import Tokenizer
from xmc_jax.training.objective import Objective
from xmc_jax.training.optim import make_optimizers
from xmc_jax.training.program import Program
from xmc_jax.types import Array, Tree, UserError


@dataclasses.dataclass(frozen=True)
class Method:
  """What training, sampling and evaluation need to know of a family.

  sample: (params, stats, frozen, batch, z) -> images [b, h, w, 3] in [0, 1], of the network
    "g"; batch holds tokens and mask. None for a family that draws no images.
  frozen: readers of the weights that are not trained, by name.
  frozen_spec: their shapes, known without the files.
  batch_spec: shapes and dtypes of one step's batch, leaves [r, b, ...].
  tokenizer: reads what turns captions to tokens, as the networks want them.
  sample_needs: names of the frozen weights without which `sample` cannot draw.
  export: (folder of the run, {network: params}, tokenizer) writes what other runs read of this one;
    called where a checkpoint is saved, by one process.
  """
  objective: Objective
  sample: Callable[..., Array] | None
  z_features: int
  frozen: dict[str, Callable[[], Tree]]
  frozen_spec: dict[str, Tree]
  batch_spec: dict[str, Tree]
  tokenizer: Callable[[], Tokenizer]
  sample_needs: tuple[str, ...] = ('text',)
  export: Callable[[epath.Path, dict[str, Tree], Tokenizer], None] | None = None

  def load_frozen(self, names: Iterable[str] | None = None) -> dict[str, Tree]:
    """The weights that are not trained, `{name: variables}`; those of `names`, or all."""
    return {name: self.frozen[name]() for name in (self.frozen if names is None else names)}


def build(config: ml_collections.ConfigDict) -> Method:
  """The method that `config.method` names: a module of this package with a `build(config)`."""
  names = (m.name for m in pkgutil.iter_modules(__path__))
  known = sorted(name for name in names if not name.startswith('_'))     # `_` is what they share
  if config.method not in known:
    raise UserError(f'method = {config.method!r} is unknown; there are {", ".join(known)}')
  return importlib.import_module(f'{__name__}.{config.method}').build(config)


def program(method: Method, config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> Program:
  """The training program of `method`, built from `config`, over the devices of `mesh`."""
  return Program(method.objective, make_optimizers(config.optim), config.ema_decay,
                 method.frozen_spec, method.batch_spec, mesh, config.shard)
