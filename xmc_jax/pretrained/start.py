"""The generator that a new run begins with: `--config.init`."""
from __future__ import annotations

import dataclasses

import jax
from flax import traverse_util

from xmc_jax.pretrained.model import load
from xmc_jax.training.mesh import put_whole
from xmc_jax.training.state import TrainState
from xmc_jax.types import Tree, UserError


def begin_with(name: str, state: TrainState) -> TrainState:
  """A new state with the averaged generator of a trained model, as live and as averaged weights.

  What the model has no weights of stays as initialized: networks that only the training uses, such
  as the discriminator, and further layers of the generator.

  Args:
    name: a model as `xmc_jax.load` takes it.
    state: before the first step.
  Raises:
    UserError: there is no such model, or the generator of the run cannot take its weights.
  """
  trained, g = load(name).generator.tree, state.networks['g']
  params = _replaced(g.params, trained['params'], name)
  stats = _replaced(g.stats, trained['stats'], name) if g.stats else g.stats
  print(f'generator begun with {name}')
  networks = state.networks | {'g': dataclasses.replace(g, params=params, stats=stats)}
  ema = state.ema | {'g': jax.tree.map(lambda x: x.copy(), params)}
  return dataclasses.replace(state, networks=networks, ema=ema)


def _replaced(tree: Tree, trained: Tree, name: str) -> Tree:
  """`tree` with the arrays of `trained`, all of which it must have, in the same shapes."""
  flat, found = (traverse_util.flatten_dict(x, sep='/') for x in (tree, trained))
  wrong = next((k for k, x in found.items() if k not in flat or flat[k].shape != x.shape), None)
  if wrong:
    here = list(flat[wrong].shape) if wrong in flat else 'missing'
    raise UserError(f'--config.init={name}: its generator is another one than this run trains: '
                    f'{wrong} is {list(found[wrong].shape)} there and {here} here; begin with the '
                    'same method and the same --config.model')
  return traverse_util.unflatten_dict(
      flat | {k: put_whole(jax.device_get(x), flat[k].sharding) for k, x in found.items()}, sep='/')
