"""Weights that come with the package: small networks that tools of this project trained."""
from __future__ import annotations

import dataclasses
import importlib.resources
import os
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from flax import linen as nn
from flax import traverse_util
from safetensors import numpy as safetensors_numpy

from xmc_jax.types import Tree, UserError
from xmc_jax.utils import atomic


@dataclasses.dataclass(frozen=True)
class OwnWeights:
  """The files of one kind of network, one for each data set it was trained on.

  kind    such as 'judge'; `tools/train_KIND.py` trains it
  names   the data sets
  module  makes the network
  inputs  shapes of its arguments
  """
  kind: str
  names: tuple[str, ...]
  module: Callable[[], nn.Module]
  inputs: tuple[jax.ShapeDtypeStruct, ...]

  def path_of(self, name: str) -> pathlib.Path:
    """Where the weights of a data set lie in this package."""
    return pathlib.Path(str(importlib.resources.files('xmc_jax.evals.judges'))) / 'assets' / f'{self.kind}_{name}.safetensors'

  def find(self, name_or_path: str | os.PathLike[str]) -> pathlib.Path:
    """The weights of a data set, one of `names`, or at a path of the user's; UserError: neither."""
    known = name_or_path in self.names
    path = self.path_of(name_or_path) if known else pathlib.Path(name_or_path)
    if not path.is_file():
      raise UserError(
        f'There is no {self.kind} {str(name_or_path)!r}; choose one of {", ".join(self.names)}, or '
        f'train one with tools/train_{self.kind}.py and give the path of its weights.')
    return path

  def load(self, path: str | os.PathLike[str]) -> tuple[nn.Module, Tree]:
    """The network of a file and its weights as `{"params": ...}`, float32.

    Raises:
      UserError: the file is missing or damaged, or is not this network's.
    """
    module = self.module()
    wanted = jax.eval_shape(module.init, jax.random.key(0), *self.inputs)['params']
    wanted = traverse_util.flatten_dict(wanted, sep='/')
    try:
      tensors = safetensors_numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
      raise UserError(
        f"The {self.kind}'s weights {path} cannot be read ({error}); install xmc_jax again, or "
        f'train them with tools/train_{self.kind}.py.') from error
    if {k: x.shape for k, x in tensors.items()} != {k: x.shape for k, x in wanted.items()}:
      raise UserError(f'The weights {path} are not those of the {self.kind} of this version of '
                      f'xmc_jax; train them again with tools/train_{self.kind}.py.')
    params = {name: jnp.asarray(value, jnp.float32) for name, value in tensors.items()}
    return module, {'params': traverse_util.unflatten_dict(params, sep='/')}

  def save(self, path: str | os.PathLike[str], variables: Tree) -> None:
    """Writes weights in half precision, for `load`."""
    flat = traverse_util.flatten_dict(variables['params'], sep='/')
    tensors = {name: np.asarray(value, np.float16) for name, value in flat.items()}
    atomic.save(pathlib.Path(path), safetensors_numpy.save(tensors))
