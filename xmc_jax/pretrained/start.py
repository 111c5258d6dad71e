"""The weights that a new run begins with: `--config.init`."""
from __future__ import annotations

import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from xmc_jax.distributed import processes
from xmc_jax.pretrained import export, folder, model
from xmc_jax.sampling import TextToImage, find_text_encoder
from xmc_jax.training.mesh import put_whole
from xmc_jax.training.state import TrainState
from xmc_jax.types import Tree, UserError
from xmc_jax.weight_files import files

_OTHERS = 'networks/{}/'      # before the names of all networks as they were trained


def begin_with(name: str, state: TrainState) -> TrainState:
  """A new state with the weights of a trained model.

  The generator begins with the averaged weights, its average too. Other networks, such as the
  discriminator, begin with theirs where the model has them: a run, a model whose discriminator
  chooses among images, or one that was exported with --full.
  What it has no weights of stays as initialized.

  Args:
    name: a model as `xmc_jax.load` takes it, or a safetensors file of the names that `xmc export`
      writes.
    state: before the first step.
  Raises:
    UserError: there is no such model, a network of the run cannot take its weights, or processes
      have read different ones.
  """
  tensors, networks = read(name, state), {}
  processes.check_same({f'the weights of --config.init={name}': files.fingerprint(tensors)})
  for key, network in state.networks.items():
    prefix = _prefix(key)
    networks[key] = network.replace(params=_replaced(network.params, tensors, f'{prefix}params/'),
                                    stats=_replaced(network.stats, tensors, f'{prefix}stats/'))
  others = ' and its discriminator' if any(x.startswith(_prefix('d')) for x in tensors) else ''
  print(f'begun with the generator of {name}{others}')
  # A copy, because the step takes over the memory of the state that it is given.
  copy = jax.jit(lambda params: jax.tree.map(jnp.copy, params),
                 out_shardings=jax.tree.map(lambda x: x.sharding, state.ema['g']))
  average = copy(networks['g'].params)
  return state.replace(networks=networks, ema=state.ema | {'g': average})


def read(name: str, state: TrainState) -> dict[str, np.ndarray]:
  """The arrays of a model by name, which fit a state, or its shapes; UserError as `begin_with`."""
  if 'g' not in state.networks:
    raise UserError(f'--config.init={name}: this method trains an encoder, and init gives a '
                    'generator; leave it out')
  tensors = {key: x for key, x in _tensors(name).items() if not key.startswith(folder.FROZEN)}
  known = ('params/', 'stats/', *map(_OTHERS.format, state.networks))
  strange = next((key for key in tensors if not key.startswith(known)), None)
  if strange or not any(key.startswith('params/') for key in tensors):
    raise UserError(f'--config.init={name}: it is not of the networks of this method ('
                    + (f'it has {strange}' if strange else 'it has no params/…')
                    + '); give a model that `xmc export` has written, or a run, of this method')
  for key, network in state.networks.items():
    for part in ('params', 'stats'):
      leaves = traverse_util.flatten_dict(getattr(network, part), sep='/')
      prefix = f'{_prefix(key)}{part}/'
      for place, x in _below(tensors, prefix).items():
        here = leaves.get(place)
        if here is None or here.shape != x.shape:
          size = 'missing' if here is None else list(here.shape)
          raise UserError(
              f'--config.init={name}: it is of other networks than this run trains: '
              f'{prefix}{place} is {list(x.shape)} there and {size} here; begin with the same '
              'method and the same --config.model')
  return tensors


def _prefix(network: str) -> str:
  """Before the names of the weights that a network begins with: the generator's are averaged."""
  return '' if network == 'g' else _OTHERS.format(network)


def _below(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
  return {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}


def _tensors(name: str) -> dict[str, np.ndarray]:
  """The arrays of a model by the names that `xmc export --full` gives them."""
  file = pathlib.Path(name).expanduser()
  if file.suffix == '.safetensors':
    return files.read_safetensors(file)
  path = model.find(name)
  if folder.is_model(path):
    folder.read_facts(path)      # which checks the files
    return folder.read_tensors(path)
  run = TextToImage.load(path)
  return (export.flat('params', run.tree['params']) | export.flat('stats', run.tree['stats'])
          | export.networks(path, run, find_text_encoder(run.config.text.encoder, None)))


def _replaced(tree: Tree, tensors: Mapping[str, np.ndarray], prefix: str) -> Tree:
  """`tree` with the arrays whose names begin with `prefix`."""
  leaves = traverse_util.flatten_dict(tree, sep='/')
  new = {place: put_whole(np.asarray(x, leaves[place].dtype), leaves[place].sharding)
         for place, x in _below(tensors, prefix).items()}
  return traverse_util.unflatten_dict(leaves | new, sep='/')
