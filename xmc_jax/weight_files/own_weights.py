"""Weights that come with the package: small networks trained by this project's tools."""
from __future__ import annotations

import dataclasses
import importlib.resources
import os
import pathlib
from collections.abc import Callable

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util
from safetensors import numpy as safetensors_numpy

from xmc_jax.types import Tree, UserError
from xmc_jax.utils import atomic
from xmc_jax.weight_files import convert, files


@dataclasses.dataclass(frozen=True)
class OwnWeights:
  """The weight files of one kind of network, one for each data set it was trained on.

  kind    such as 'detector'; `tools/train_KIND.py` trains it
  names   the data sets
  module  creates the network
  inputs  shapes of its arguments
  """
  kind: str
  names: tuple[str, ...]
  module: Callable[[], nn.Module]
  inputs: tuple[jax.ShapeDtypeStruct, ...]

  def path_of(self, name: str) -> pathlib.Path:
    """The path of the weights for a data set in this package."""
    folder = pathlib.Path(str(importlib.resources.files('xmc_jax.evals.networks')), 'assets')
    return folder / f'{self.kind}_{name}.safetensors'

  def find(self, name_or_path: str | os.PathLike[str]) -> pathlib.Path:
    """The weights for a data set, one of `names`, or at a path; UserError if there are none."""
    known = name_or_path in self.names
    path = self.path_of(name_or_path) if known else pathlib.Path(name_or_path)
    if not path.is_file():
      raise UserError(
        f'there is no {self.kind} {str(name_or_path)!r}; choose one of {", ".join(self.names)}, or '
        f'train one with tools/train_{self.kind}.py and give the path of its weights')
    return path

  def load(self, path: str | os.PathLike[str]) -> tuple[nn.Module, Tree]:
    """The network and its weights `{"params": ...}`, float32, from a file.

    Raises:
      UserError: the file is missing or damaged, or belongs to another network.
    """
    module = self.module()
    wanted = jax.eval_shape(module.init, jax.random.key(0), *self.inputs)['params']
    tensors = files.read_safetensors(path)
    try:
      return module, {'params': convert.fill(wanted, tensors, lambda path: ['/'.join(path)],
                                             layout='jax')}
    except UserError as error:
      raise UserError(f'the weights {path} are not those of the {self.kind} of this version of '
                      f'xmc_jax: {error}; train them again with tools/train_{self.kind}.py'
                      ) from error

  def save(self, path: str | os.PathLike[str], variables: Tree) -> None:
    """Writes weights in half precision, in the format of `load`."""
    flat = traverse_util.flatten_dict(variables['params'], sep='/')
    tensors = {name: np.asarray(value, np.float16) for name, value in flat.items()}
    atomic.save(pathlib.Path(path), safetensors_numpy.save(tensors))
