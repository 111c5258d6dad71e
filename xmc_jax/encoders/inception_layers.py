"""The layers of Inception-v3 as a table: widths, kernels, order, and names in weight files.

The names are torchvision's, which pytorch-fid and torch-fidelity use too.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class ConvSpec(NamedTuple):
  """A convolution followed by a ReLU; without padding if it has a stride."""
  name: str
  width: int
  kernel: tuple[int, int] = (1, 1)
  stride: int = 1
  padding: str = 'SAME'


# A branch is a chain of steps: a convolution, a tuple of convolutions that are applied to the same
# input and concatenated, or a 3 x 3 pooling: HALVE (stride 2), AROUND (stride 1) or LAST (stride 1,
# in the last block).
HALVE, AROUND, LAST = 'halve', 'around', 'last'
Step = ConvSpec | tuple[ConvSpec, ...] | str
BranchSpec = tuple[Step, ...]


def _halving(name: str, width: int) -> ConvSpec:
  return ConvSpec(name, width, (3, 3), 2, 'VALID')


def _block_35(pool: int) -> tuple[BranchSpec, ...]:
  return (
    (ConvSpec('branch1x1', 64),),
    (ConvSpec('branch5x5_1', 48), ConvSpec('branch5x5_2', 64, (5, 5))),
    (ConvSpec('branch3x3dbl_1', 64), ConvSpec('branch3x3dbl_2', 96, (3, 3)),
     ConvSpec('branch3x3dbl_3', 96, (3, 3))),
    (AROUND, ConvSpec('branch_pool', pool)))


def _block_17(width: int) -> tuple[BranchSpec, ...]:
  return (
    (ConvSpec('branch1x1', 192),),
    (ConvSpec('branch7x7_1', width), ConvSpec('branch7x7_2', width, (1, 7)),
     ConvSpec('branch7x7_3', 192, (7, 1))),
    (ConvSpec('branch7x7dbl_1', width), ConvSpec('branch7x7dbl_2', width, (7, 1)),
     ConvSpec('branch7x7dbl_3', width, (1, 7)), ConvSpec('branch7x7dbl_4', width, (7, 1)),
     ConvSpec('branch7x7dbl_5', 192, (1, 7))),
    (AROUND, ConvSpec('branch_pool', 192)))


def _block_8(pool: str) -> tuple[BranchSpec, ...]:
  return (
    (ConvSpec('branch1x1', 320),),
    (ConvSpec('branch3x3_1', 384),
     (ConvSpec('branch3x3_2a', 384, (1, 3)), ConvSpec('branch3x3_2b', 384, (3, 1)))),
    (ConvSpec('branch3x3dbl_1', 448), ConvSpec('branch3x3dbl_2', 384, (3, 3)),
     (ConvSpec('branch3x3dbl_3a', 384, (1, 3)), ConvSpec('branch3x3dbl_3b', 384, (3, 1)))),
    (pool, ConvSpec('branch_pool', 192)))


STEM = (
  _halving('Conv2d_1a_3x3', 32),
  ConvSpec('Conv2d_2a_3x3', 32, (3, 3), padding='VALID'),
  ConvSpec('Conv2d_2b_3x3', 64, (3, 3)),
  HALVE,
  ConvSpec('Conv2d_3b_1x1', 80),
  ConvSpec('Conv2d_4a_3x3', 192, (3, 3), padding='VALID'),
  HALVE)
BLOCKS = {
  'Mixed_5b': _block_35(32),
  'Mixed_5c': _block_35(64),
  'Mixed_5d': _block_35(64),
  'Mixed_6a': (
    (_halving('branch3x3', 384),),
    (ConvSpec('branch3x3dbl_1', 64), ConvSpec('branch3x3dbl_2', 96, (3, 3)),
     _halving('branch3x3dbl_3', 96)),
    (HALVE,)),
  'Mixed_6b': _block_17(128),
  'Mixed_6c': _block_17(160),
  'Mixed_6d': _block_17(160),
  'Mixed_6e': _block_17(192),
  'Mixed_7a': (
    (ConvSpec('branch3x3_1', 192), _halving('branch3x3_2', 320)),
    (ConvSpec('branch7x7x3_1', 192), ConvSpec('branch7x7x3_2', 192, (1, 7)),
     ConvSpec('branch7x7x3_3', 192, (7, 1)), _halving('branch7x7x3_4', 192)),
    (HALVE,)),
  'Mixed_7b': _block_8(AROUND),
  'Mixed_7c': _block_8(LAST)}


def layers() -> Iterator[tuple[tuple[str, ...], str]]:
  """For every convolution, its path in the parameters and its scope in the graph of 2015.

  The order is that of Keras. In the graph, a branch of a block has a scope "tower", unless it is a
  single convolution. These scopes, and the convolutions in them, are numbered from the second on.
  """
  for number, conv in enumerate(step for step in STEM if isinstance(step, ConvSpec)):
    yield (conv.name,), _numbered('conv', number)
  for number, (block, branches) in enumerate(BLOCKS.items()):
    scope, tower = _numbered('mixed', number), 0
    for steps in branches:
      branch_scope = scope
      if len(steps) > 1:
        branch_scope, tower = f'{scope}/{_numbered("tower", tower)}', tower + 1
      for place, step in enumerate(step for step in steps if not isinstance(step, str)):
        if isinstance(step, ConvSpec):
          yield (block, step.name), f'{branch_scope}/{_numbered("conv", place)}'
        else:
          for side, conv in enumerate(step):
            yield (block, conv.name), f'{branch_scope}/mixed/{_numbered("conv", side)}'


def _numbered(name: str, number: int) -> str:
  return f'{name}_{number}' if number else name
