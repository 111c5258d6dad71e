"""What the networks share. Maps are [b, c, h, w]."""
from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional as F

BASE = 4      # side of the smallest map

leaky = functools.partial(F.leaky_relu, negative_slope=0.2)


def conv(inputs: int, outputs: int, side: int = 3, stride: int = 1, *, padding: int | None = None,
         bias: bool = False) -> nn.Conv2d:
  return nn.Conv2d(inputs, outputs, side, stride, (side - 1) // 2 if padding is None else padding,
                   bias=bias)


def whole(inputs: int, side: int = BASE, bias: bool = False) -> nn.Conv2d:
  """A map of one size to one number."""
  return conv(inputs, 1, side, padding=0, bias=bias)


def as_map(x, side: int):
  """[b, side * side * c] to [b, c, side, side]."""
  return x.view(len(x), side, side, -1).permute(0, 3, 1, 2).contiguous()


def everywhere(x, sentence):
  """A map with the sentence in each place beside it."""
  return torch.cat([x, sentence[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
