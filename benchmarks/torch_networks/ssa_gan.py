"""SSA-GAN (arXiv 2104.00567)."""
from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from torch_networks.layers import BASE, as_map, conv, everywhere, leaky, whole

MASK_FEATURES, HIDDEN = 100, 256
WIDEST = 16      # maps of the discriminator, in multiples of its width


class Modulation(nn.Module):
  def __init__(self, channels, text_features):
    super().__init__()
    self.norm = nn.BatchNorm2d(channels, affine=False)
    for name in ('gamma', 'beta'):
      self.add_module(f'{name}_hidden', nn.Linear(text_features, HIDDEN))
      self.add_module(name, nn.Linear(HIDDEN, channels))

  def forward(self, x, sentence, mask):
    gamma = self.gamma(F.relu(self.gamma_hidden(sentence)))[:, :, None, None]
    beta = self.beta(F.relu(self.beta_hidden(sentence)))[:, :, None, None]
    return self.norm(x) * (1 + mask * gamma) + mask * beta


class MaskPredictor(nn.Module):
  def __init__(self, channels):
    super().__init__()
    self.conv, self.norm = conv(channels, MASK_FEATURES, bias=True), nn.BatchNorm2d(MASK_FEATURES)
    self.logit = conv(MASK_FEATURES, 1, 1, bias=True)

  def forward(self, x):
    return self.logit(F.relu(self.norm(self.conv(x))))


class SsaUp(nn.Module):
  def __init__(self, inputs, outputs, text_features):
    super().__init__()
    self.norm_in, self.conv_in = Modulation(inputs, text_features), conv(inputs, outputs, bias=True)
    self.norm_out = Modulation(outputs, text_features)
    self.conv_out = conv(outputs, outputs, bias=True)
    self.shortcut = nn.Identity() if inputs == outputs else conv(inputs, outputs, 1, bias=True)
    self.gate = nn.Parameter(torch.zeros(()))

  def forward(self, x, sentence, mask):
    h = self.conv_in(F.relu(self.norm_in(x, sentence, mask)))
    h = self.conv_out(F.relu(self.norm_out(h, sentence, mask)))
    return self.shortcut(x) + self.gate * h


class SsaGenerator(nn.Module):
  def __init__(self, size, width, text_features, noise):
    super().__init__()
    self.blocks = (size // BASE).bit_length()
    channels = [8 * width] * (self.blocks - 2) + [4 * width, 2 * width, width]
    self.start = nn.Linear(noise, channels[0] * BASE * BASE)
    for i in range(self.blocks):
      self.add_module(f'mask_{i}', MaskPredictor(channels[i]))
      self.add_module(f'block_{i}', SsaUp(channels[i], channels[i + 1], text_features))
    self.norm, self.pixels = nn.BatchNorm2d(width), conv(width, 3, bias=True)

  def forward(self, sentence, z):
    x, mask = as_map(self.start(z), BASE), None
    for i in range(self.blocks):
      logits = self.get_submodule(f'mask_{i}')(x)
      if i:
        x = F.interpolate(x, scale_factor=2)
        logits = F.interpolate(logits, scale_factor=2, mode='bilinear', align_corners=True)
      mask = torch.sigmoid(logits)
      x = self.get_submodule(f'block_{i}')(x, sentence, mask)
    return torch.tanh(self.pixels(leaky(self.norm(x))))


class SsaDown(nn.Module):
  def __init__(self, inputs, outputs):
    super().__init__()
    self.conv_down, self.conv = conv(inputs, outputs, 4, 2), conv(outputs, outputs)
    self.shortcut = conv(inputs, outputs, 1, bias=True)      # where inputs == outputs never called
    self.learnt = inputs != outputs
    self.gate = nn.Parameter(torch.zeros(()))

  def forward(self, x):
    h = leaky(self.conv(leaky(self.conv_down(x))))
    return F.avg_pool2d(self.shortcut(x) if self.learnt else x, 2) + self.gate * h


class OneStageDiscriminator(nn.Module):
  """DF-GAN's too, with another `widest`."""

  def __init__(self, size, width, text_features, widest):
    super().__init__()
    self.blocks = (size // BASE).bit_length() - 1
    channels = [width] + [width * min(2 << i, widest) for i in range(self.blocks)]
    self.start = conv(3, width, bias=True)
    for i in range(self.blocks):
      self.add_module(f'block_{i}', SsaDown(channels[i], channels[i + 1]))
    self.joint = conv(channels[-1] + text_features, 2 * width)
    self.logit = whole(2 * width)

  def forward(self, image, *sentences):
    """The logits [b] of the images with each of the sentences."""
    x = self.start(image)
    for i in range(self.blocks):
      x = self.get_submodule(f'block_{i}')(x)
    return [self.logit(leaky(self.joint(everywhere(x, s)))).flatten() for s in sentences]
