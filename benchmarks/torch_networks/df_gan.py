"""DF-GAN (arXiv 2008.05865)."""
from __future__ import annotations

import torch
from torch import nn

from torch_networks.galip import GalipUp
from torch_networks.layers import BASE, as_map, conv, leaky

WIDEST = 8


class DfGenerator(nn.Module):
  def __init__(self, size, width, text_features, noise):
    super().__init__()
    self.blocks = (size // BASE).bit_length() - 1
    channels = [width * min(WIDEST, 2 ** i) for i in range(self.blocks + 1)][::-1]
    self.start = nn.Linear(noise, channels[0] * BASE * BASE)
    for i in range(self.blocks):
      self.add_module(f'block_{i}', GalipUp(channels[i], channels[i + 1], BASE << (i + 1),
                                            noise + text_features))
    self.pixels = conv(width, 3, bias=True)

  def forward(self, sentence, z):
    x, condition = as_map(self.start(z), BASE), torch.cat([z, sentence], 1)
    for i in range(self.blocks):
      x = self.get_submodule(f'block_{i}')(x, condition)
    return torch.tanh(self.pixels(leaky(x)))
