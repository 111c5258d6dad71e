"""A network on each device's own examples: its gradient is summed over devices only once."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from xmc_jax.types import Tree

_EXAMPLES, _ALL = jax.P('data'), jax.P()


def per_device(run: Callable[..., Any], params: Tree, *inputs: Tree) -> Any:
  """`run(params, *inputs)`, where no example of the result depends on another example.

  Each device runs it on its own examples. The result is the same, and so is the gradient of
  `params`, but left to the compiler every operation's part of that gradient is summed over the
  devices by itself: of each call of a network once, and of a kernel that is folded before it is
  used (16 taps in place of 9) in its folded form. Here the devices sum what `run` leaves.

  Args:
    params: whole on every device.
    inputs: trees of arrays whose first axis is the examples, like those of the result.

  Without a mesh of several devices, and inside another shard_map, it is a plain call.
  """
  mesh = jax.typeof(jax.tree.leaves(inputs)[0]).sharding.mesh
  if jax.sharding.AxisType.Auto not in mesh.axis_types or mesh.size == 1:
    return run(params, *inputs)

  def own_examples(params, *inputs):
    return run(jax.lax.pcast(params, 'data', to='varying'), *inputs)
  return jax.shard_map(own_examples, mesh=mesh, in_specs=(_ALL, *[_EXAMPLES] * len(inputs)),
                       out_specs=_EXAMPLES)(params, *inputs)
