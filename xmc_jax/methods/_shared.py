"""Config keys, checks and batch shapes that all methods share."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import ml_collections
from ml_collections import config_dict

from xmc_jax.data.layouts import COLUMNS
from xmc_jax.data.views import with_partners
from xmc_jax.layers import impl
from xmc_jax.types import UserError

if TYPE_CHECKING:      # it imports this module
  from xmc_jax.methods._steps import Extension


def label_config() -> dict[str, object]:
  """The keys of `config.model` that `label_shape` reads."""
  return dict(
      # Number of classes; needed for labels of several classes, and for `terms.labels`.
      classes=config_dict.placeholder(int),
      one_class=True)            # a label is one class id, not the amounts of all classes


def label_shape(model: ml_collections.ConfigDict) -> tuple[int, ...]:
  """Shape of one example's label: () for a class id, (classes,) for the amounts of all."""
  if not model.one_class and not model.classes:
    raise UserError('--config.model.classes: the losses use labels, so give the number of '
                    'classes that the data set has')
  return () if model.one_class else (model.classes,)


def mask_rule(config: ml_collections.ConfigDict) -> str:
  """Label rule for masking same-class pairs out of the negatives of DAMSM's and CLIP's losses.

  The same as `data.partners`, except that '' and 'self' use 'exact'. Whether there is a mask at all
  is set by `terms.mask_same_class` and `terms.damsm_mask_same_class`.
  """
  return 'exact' if config.data.partners in ('', 'self') else config.data.partners


def options(config: ml_collections.ConfigDict) -> dict[str, object]:
  """Keyword arguments `impl` and `dtype` of the networks."""
  return dict(impl=impl.choose(config.model.impl, jax.default_backend()),
              dtype=jnp.dtype(config.model.dtype))


def _name(config: ml_collections.ConfigDict) -> str:
  """The method whose networks are trained, which an extension names."""
  return config.get('base', config.method)


def check_size(config: ml_collections.ConfigDict, sizes: Sequence[int]) -> None:
  """Raises UserError unless the networks can be built for images of `config.model.size`."""
  if config.model.size not in sizes:
    raise UserError(f'--config.model.size={config.model.size}: {_name(config)} is built for '
                    f'{", ".join(map(str, sizes))} px')


def check_wrong_pairs(config: ml_collections.ConfigDict) -> None:
  """Raises UserError unless every image can be paired with the caption of the next example."""
  if config.microbatches > 1:
    raise UserError(f'--config.microbatches={config.microbatches}: mismatched pairs need the whole '
                    f'batch at once in {_name(config)}; set --config.microbatches=1')
  if config.batch_size < 2:
    raise UserError(f'--config.batch_size={config.batch_size}: a mismatched pair needs another '
                    'example; set 2 or more')


def batch_spec(config: ml_collections.ConfigDict, extension: Extension | None = None, *,
               labels: bool = False, partners: bool = False, rounds: int = 1, objects: int = 0
               ) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of one step's batch, with labels and partners if asked for or used by the extension.

  objects: rows of the layout of an image; 0 for no layouts.
  """
  examples, size, length = config.batch_size, config.model.size, config.text.length
  spec = lambda dtype, *shape: jax.ShapeDtypeStruct((rounds, examples, *shape), dtype)
  batch = {'image': spec(jnp.float32, size, size, 3), 'tokens': spec(jnp.int32, length),
           'mask': spec(jnp.bool_, length)}
  if objects:
    batch['objects'] = spec(jnp.float32, objects, COLUMNS)
  if labels or extension and extension.labels:
    dtype = jnp.int32 if config.model.one_class else jnp.float32
    batch['label'] = spec(dtype, *label_shape(config.model))
  return with_partners(batch) if partners or extension else batch
