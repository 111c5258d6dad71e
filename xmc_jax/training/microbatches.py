"""Gradient accumulation that keeps the contrastive batch.

The networks see the rows in parts, one after the other; the losses see all rows. The backward pass
runs the networks of each part again, so that only one part's activations are in memory at a time:
the two passes of Gao et al. 2021 (arXiv 2101.06983) as one rematerialised loop. It is exact, since
networks mix no rows but within a group of BatchNorm, and a group lies in one part.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from xmc_jax.types import Array, UserError


@dataclasses.dataclass(frozen=True)
class Microbatches:
  """`count` parts; rows that the networks mix come in successive groups of `group`, None: all."""
  count: int = 1
  group: int | None = None


WHOLE = Microbatches()


def check_microbatches(parts: Microbatches, rows: int) -> None:
  """Raises UserError unless `rows` make whole groups in each part."""
  if parts.count == 1:
    return
  if parts.group is None:
    raise UserError(f'microbatches = {parts.count} needs BatchNorm in groups, since statistics of '
                    'all rows cannot be had from a part of them; set for instance '
                    '--config.model.bn_group_size=8')
  if rows % (parts.count * parts.group):
    raise UserError(f'microbatches = {parts.count} parts of whole groups of model.bn_group_size = '
                    f'{parts.group} rows do not make a batch of {rows}; choose a batch_size that '
                    f'is a multiple of {parts.count * parts.group}')


def in_microbatches(stage: Callable, parts: Microbatches) -> Callable:
  """`Backbone.stage` with the same result, computed in parts. Statistics are means over parts."""
  if parts.count == 1:
    return stage

  def deal(x: Array) -> Array:
    """[b, ...] -> [parts, b / parts, ...]. Groups go to the parts in turn: every device has rows of
    every part, and none leaves its device."""
    x = x.reshape(-1, parts.count, parts.group, *x.shape[1:])
    return jnp.moveaxis(x, 1, 0).reshape(parts.count, -1, *x.shape[3:])

  def gather(x: Array) -> Array:
    x = x.reshape(parts.count, -1, parts.group, *x.shape[2:])
    return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[3:])

  def run(params, stats, frozen, batch, rngs):
    @jax.checkpoint
    def one(part):
      outputs, new_stats = stage(params, stats, frozen, *part)
      return dataclasses.replace(outputs, batch={}), new_stats

    outputs, new_stats = jax.lax.map(one, jax.tree.map(deal, (batch, rngs)))
    outputs = dataclasses.replace(jax.tree.map(gather, outputs), batch=batch)
    return outputs, jax.tree.map(lambda x: x.mean(0), new_stats)
  return run
