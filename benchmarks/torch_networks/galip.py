"""GALIP (arXiv 2301.12959)."""
from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from torch_networks.layers import as_map, conv, everywhere, leaky, whole

BRIDGES, WIDEST = 4, 8


class Fuse(nn.Module):
  def __init__(self, channels, features):
    super().__init__()
    for i in range(2):
      for name in (f'gamma_{i}', f'beta_{i}'):
        self.add_module(f'{name}_hidden', nn.Linear(features, channels))
        self.add_module(name, nn.Linear(channels, channels))

  def forward(self, x, condition):
    def of_condition(name):
      hidden = F.relu(self.get_submodule(f'{name}_hidden')(condition))
      return self.get_submodule(name)(hidden)[:, :, None, None]
    for i in range(2):
      x = leaky(of_condition(f'gamma_{i}') * x + of_condition(f'beta_{i}'))
    return x


class BridgeBlock(nn.Module):
  def __init__(self, channels, features):
    super().__init__()
    self.conv_in, self.fuse_in = conv(channels, channels // 2, bias=True), Fuse(channels // 2,
                                                                                 features)
    self.conv_out, self.fuse_out = conv(channels // 2, channels, bias=True), Fuse(channels,
                                                                                   features)

  def forward(self, x, condition):
    return x + self.fuse_out(self.conv_out(self.fuse_in(self.conv_in(x), condition)), condition)


class GalipUp(nn.Module):
  def __init__(self, inputs, outputs, side, features):
    super().__init__()
    self.side = side
    self.fuse_in, self.conv_in = Fuse(inputs, features), conv(inputs, outputs, bias=True)
    self.fuse_out, self.conv_out = Fuse(outputs, features), conv(outputs, outputs, bias=True)
    self.shortcut = nn.Identity() if inputs == outputs else conv(inputs, outputs, 1, bias=True)

  def forward(self, x, condition):
    x = F.interpolate(x, size=(self.side, self.side))
    h = self.conv_in(self.fuse_in(x, condition))
    return self.shortcut(x) + self.conv_out(self.fuse_out(h, condition))


class GalipGenerator(nn.Module):
  """sizes: a `torch_frozen.Sizes`; prompted: the first and the last layer with a prompt."""

  def __init__(self, size, width, sizes, prompted, noise):
    super().__init__()
    self.grid, self.e, self.prompted = sizes.grid, sizes.width, prompted
    features = noise + sizes.features
    self.start = nn.Linear(noise, width * self.grid ** 2)
    for i in range(BRIDGES):
      self.add_module(f'bridge_{i}', BridgeBlock(width, features))
    self.bridge = conv(width, self.e, 5, bias=True)
    self.prompts = nn.Linear(features, (prompted[1] - prompted[0] + 1) * self.e)
    self.join = conv(self.e, WIDEST * width, 5, bias=True)
    powers = [2 ** i for i in range(self.grid.bit_length(), 9) if 2 ** i < size]
    sides = [*powers, size]
    channels = [WIDEST * width] + [width * min(WIDEST, 2 ** i) for i in range(len(sides))[::-1]]
    self.blocks = len(sides)
    for i, side in enumerate(sides):
      self.add_module(f'block_{i}', GalipUp(channels[i], channels[i + 1], side, features))
    self.pixels = conv(width, 3, bias=True)

  def forward(self, clip, sentence, z):
    condition = torch.cat([z, sentence], 1)
    x = as_map(self.start(z), self.grid)
    for i in range(BRIDGES):
      x = self.get_submodule(f'bridge_{i}')(x, condition)
    bridge = self.bridge(x)
    prompts = self.prompts(condition).view(len(z), -1, self.e)
    x = self.join(bridge + 0.1 * clip.retell(bridge, prompts, self.prompted[0]))
    for i in range(self.blocks):
      x = self.get_submodule(f'block_{i}')(x, condition)
    return self.pixels(leaky(x))


class Reading(nn.Module):
  def __init__(self, inputs, outputs, other):
    super().__init__()
    self.conv_in, self.conv_out = conv(inputs, outputs), conv(outputs, outputs)
    self.shortcut = conv(inputs, outputs, 1, bias=True)      # where inputs == outputs never called
    self.learnt = inputs != outputs
    self.gate = nn.Parameter(torch.zeros(()))
    if other:
      self.gate_other = nn.Parameter(torch.zeros(()))

  def forward(self, x, other=None):
    h = leaky(self.conv_out(leaky(self.conv_in(x))))
    x = (self.shortcut(x) if self.learnt else x) + self.gate * h
    return x if other is None else x + self.gate_other * other


class GalipDiscriminator(nn.Module):
  def __init__(self, width, sizes):
    super().__init__()
    self.read_0, self.read_1 = (Reading(sizes.width, sizes.width, True) for _ in range(2))
    self.read_out = Reading(sizes.width, WIDEST * width, False)
    self.head = nn.ModuleDict({
        'joint': conv(WIDEST * width + sizes.features, 2 * width, 4, padding=0),
        'logit': whole(2 * width, sizes.grid - 3)})

  def forward(self, maps, *sentences):
    """maps [b, 3, e, g, g]; the logits [b] with each of the sentences."""
    x = self.read_1(self.read_0(maps[:, 0], maps[:, 1]), maps[:, 2])
    x = self.read_out(x)
    return [self.head['logit'](leaky(self.head['joint'](everywhere(x, s)))).flatten()
            for s in sentences]
