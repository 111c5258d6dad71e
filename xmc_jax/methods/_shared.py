"""What methods share, whatever they train."""
from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections
from ml_collections import config_dict

from xmc_jax.data.views import with_partners
from xmc_jax.layers import impl
from xmc_jax.types import UserError


def label_config() -> dict[str, object]:
  """The keys of `config.model` that `label_shape` reads."""
  return dict(
      classes=config_dict.placeholder(int),      # of the labels, where they are amounts
      one_class=True)            # a label is one class, not amounts of all


def label_shape(model: ml_collections.ConfigDict) -> tuple[int, ...]:
  """Shape of a row's label: () of one class, else one amount a class."""
  if not model.one_class and not model.classes:
    raise UserError('--config.model.classes: the terms look at labels, so give the number of '
                    'classes that the data set has')
  return () if model.one_class else (model.classes,)


def mask_rule(config: ml_collections.ConfigDict) -> str:
  """The rule by which rows of like label are no negatives of DAMSM's losses and of CLIP's.

  That of the partners. Where these are of the same image it is `exact`, as without partners.
  Whether there is a mask at all is for `terms.mask_same_class` and `terms.damsm_mask_same_class` to say.
  """
  return 'exact' if config.data.partners in ('', 'self') else config.data.partners


def options(config: ml_collections.ConfigDict) -> dict[str, object]:
  """How the networks of `config` compute: keyword arguments `impl` and `dtype`."""
  return dict(impl=impl.choose(config.model.impl, jax.default_backend()),
              dtype=jnp.dtype(config.model.dtype))


def check_size(config: ml_collections.ConfigDict, sizes: Sequence[int]) -> None:
  """Raises UserError unless the networks of the family can be built for `config.model.size`."""
  if config.model.size not in sizes:
    raise UserError(f'model.size = {config.model.size} px; {config.method} is built for '
                    f'{", ".join(map(str, sizes))} px')


def check_wrong_pairs(config: ml_collections.ConfigDict) -> None:
  """Raises UserError unless every row can meet the caption of the next."""
  if config.microbatches > 1:
    raise UserError(f'microbatches = {config.microbatches}: wrong pairs need all rows at once, so '
                    f'{config.method} cannot see them in parts; set --config.microbatches=1')
  if config.batch_size < 2:
    raise UserError(f'batch_size = {config.batch_size}: a wrong pair needs another row; set '
                    '--config.batch_size=2 or more')


def batch_spec(config: ml_collections.ConfigDict, *, labels: bool = False, partners: bool = False,
               rounds: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of one step's batch; with `labels`, and with a second view, if so."""
  rows, size, length = config.batch_size, config.model.size, config.text.length
  spec = lambda dtype, *shape: jax.ShapeDtypeStruct((rounds, rows, *shape), dtype)
  batch = {'image': spec(jnp.float32, size, size, 3), 'tokens': spec(jnp.int32, length),
           'mask': spec(jnp.bool_, length)}
  if labels:
    dtype = jnp.int32 if config.model.one_class else jnp.float32
    batch['label'] = spec(dtype, *label_shape(config.model))
  return with_partners(batch) if partners else batch
