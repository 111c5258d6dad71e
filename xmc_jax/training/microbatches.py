"""Gradient accumulation that keeps the contrastive batch (GradCache, arXiv 2101.06983).

The networks run on one microbatch after the other, while the losses see all examples. The backward
pass runs the networks of each microbatch again, so that only one microbatch's activations are in
memory at a time. This is exact: networks mix examples only within a group of BatchNorm, and a group
lies in one microbatch.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from xmc_jax.types import Array, UserError


@dataclasses.dataclass(frozen=True)
class Microbatches:
  """`count` microbatches; the networks mix successive groups of `group` examples, None: all."""
  count: int = 1
  group: int | None = None


WHOLE = Microbatches()


def check_microbatches(microbatches: Microbatches, batch_size: int) -> None:
  """Raises UserError unless each microbatch consists of whole groups."""
  count, group = microbatches.count, microbatches.group
  if count == 1:
    return
  if group is None:
    raise UserError(f'--config.microbatches={count}: BatchNorm statistics of the whole batch '
                    'cannot be computed from a microbatch; set groups, for instance '
                    '--config.model.bn_group_size=8')
  if batch_size % (count * group):
    raise UserError(f'--config.microbatches={count}: with --config.model.bn_group_size={group} the '
                    f'batch size {batch_size} does not divide into microbatches of whole groups; '
                    f'choose a multiple of {count * group}')


def in_microbatches(forward: Callable, microbatches: Microbatches) -> Callable:
  """`networks.base.Forward.forward` with the same outputs, computed in microbatches.

  New statistics are means over microbatches.
  """
  count, group = microbatches.count, microbatches.group
  if count == 1:
    return forward

  def split(x: Array) -> Array:
    """[b, ...] -> [count, b / count, ...].

    Groups are dealt out in turn: every device has examples of every microbatch, so none moves.
    """
    x = x.reshape(-1, count, group, *x.shape[1:])
    return jnp.moveaxis(x, 1, 0).reshape(count, -1, *x.shape[3:])

  def join(x: Array) -> Array:
    x = x.reshape(count, -1, group, *x.shape[2:])
    return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[3:])

  def run(params, stats, frozen, batch, rngs):
    @jax.checkpoint
    def one(inputs):
      outputs, new_stats = forward(params, stats, frozen, *inputs)
      return dataclasses.replace(outputs, batch={}), new_stats

    outputs, new_stats = jax.lax.map(one, jax.tree.map(split, (batch, rngs)))
    outputs = dataclasses.replace(jax.tree.map(join, outputs), batch=batch)
    return outputs, jax.tree.map(lambda x: x.mean(0), new_stats)
  return run
