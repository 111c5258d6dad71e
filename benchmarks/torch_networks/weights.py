"""From our parameter trees to modules whose parameters have the same names."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

NAMES = {'kernel': 'weight', 'scale': 'weight', 'embedding': 'weight'}


def flat(tree: Mapping, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], np.ndarray]:
  if not isinstance(tree, Mapping):
    return {path: np.asarray(tree)}
  return {k: v for name, part in tree.items() for k, v in flat(part, (*path, name)).items()}


def load(module: nn.Module, tree: Mapping) -> None:
  """Gives `module` the numbers of `tree`, kernels [..., inputs, outputs].

  ValueError unless every parameter gets an array of its size, and every array a parameter.
  """
  found = set()
  for path, value in flat(tree).items():
    *owners, name = path
    if name == 'kernel':
      value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    parameter = getattr(module.get_submodule('.'.join(owners)), NAMES.get(name, name))
    if parameter.numel() != value.size:
      raise ValueError(f'{"/".join(path)}: {value.shape} here, {tuple(parameter.shape)} in torch')
    with torch.no_grad():
      parameter.copy_(torch.tensor(value).reshape(parameter.shape))
    found.add(id(parameter))
  missing = [name for name, p in module.named_parameters() if id(p) not in found]
  if missing:
    raise ValueError(f'{", ".join(missing)}: in torch, not here')


def load_lstm(lstm: nn.LSTM, tree: Mapping) -> None:
  """The two directions of our `BiLstm`."""
  names = {'weight_ih': 'input', 'weight_hh': 'hidden', 'bias_ih': 'input_bias',
           'bias_hh': 'hidden_bias'}
  for direction, suffix in enumerate(('l0', 'l0_reverse')):
    for theirs, ours in names.items():
      value = torch.tensor(np.asarray(tree[ours][direction]))
      with torch.no_grad():
        getattr(lstm, f'{theirs}_{suffix}').copy_(value.T if value.ndim == 2 else value)
