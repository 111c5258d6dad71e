"""AttnGAN (arXiv 1711.10485) and DM-GAN (arXiv 1904.01310)."""
from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from torch_networks.layers import BASE, as_map, conv, everywhere, leaky, whole


def scales(size: int) -> tuple[int, int, int]:
  return size // 4, size // 2, size


def smaller(image):
  """An image at all three scales, as Pillow resizes it."""
  resize = lambda side: F.interpolate(image, size=(side, side), mode='bilinear', antialias=True)
  *sides, size = scales(image.shape[-1])
  return [*map(resize, sides), image]


class GluUp(nn.Module):
  def __init__(self, inputs, outputs):
    super().__init__()
    self.conv, self.norm = conv(inputs, 2 * outputs), nn.BatchNorm2d(2 * outputs)

  def forward(self, x):
    return F.glu(self.norm(self.conv(F.interpolate(x, scale_factor=2))), 1)


class GluResidual(nn.Module):
  def __init__(self, width):
    super().__init__()
    self.conv_in, self.norm_in = conv(width, 2 * width), nn.BatchNorm2d(2 * width)
    self.conv_out, self.norm_out = conv(width, width), nn.BatchNorm2d(width)

  def forward(self, x):
    return x + self.norm_out(self.conv_out(F.glu(self.norm_in(self.conv_in(x)), 1)))


def attended(x, keys, values, mask):
  """For each pixel of x [b, c, h, w] the values [b, t, c] by its products with the keys."""
  scores = torch.bmm(keys, x.flatten(2)).masked_fill(~mask[:, :, None], -torch.inf)
  return torch.bmm(values.transpose(1, 2), scores.softmax(1)).view_as(x)


class WordAttention(nn.Module):
  def __init__(self, text_features, width):
    super().__init__()
    self.words = nn.Linear(text_features, width, bias=False)

  def forward(self, x, words, mask):
    words = self.words(words)
    return torch.cat([x, attended(x, words, words, mask)], 1)


class DynamicMemory(nn.Module):
  def __init__(self, text_features, width):
    super().__init__()
    self.gate_word = nn.Linear(text_features, 1, bias=False)
    self.gate_mean = nn.Linear(width, 1, bias=False)
    self.write_word = nn.Linear(text_features, 2 * width)
    self.write_mean = nn.Linear(width, 2 * width)
    self.key, self.value = nn.Linear(2 * width, width), nn.Linear(2 * width, width)
    self.response = conv(2 * width, 1, 1, bias=True)

  def forward(self, x, words, mask):
    mean = x.detach().mean((2, 3))[:, None]
    gate = torch.sigmoid(self.gate_word(words) + self.gate_mean(mean))
    memory = gate * F.relu(self.write_word(words)) + (1 - gate) * F.relu(self.write_mean(mean))
    read = attended(x, F.relu(self.key(memory)), F.relu(self.value(memory)), mask)
    response = torch.sigmoid(self.response(torch.cat([x, read], 1)))
    x = (1 - response) * x + response * read
    return torch.cat([x, x], 1)


class StackedGenerator(nn.Module):
  def __init__(self, size, width, residuals, read, text_features, noise, condition):
    super().__init__()
    doublings = (scales(size)[0] // BASE).bit_length() - 1
    features = width << doublings
    self.noise = noise
    self.condition = nn.ModuleDict({'moments': nn.Linear(text_features, 4 * condition)})
    self.start = nn.Linear(noise + condition, 2 * features * BASE * BASE, bias=False)
    self.norm_start = nn.BatchNorm1d(2 * features * BASE * BASE)
    self.first = [f'up_0_{i}' for i in range(1, doublings + 1)]
    for i, name in enumerate(self.first):
      self.add_module(name, GluUp(features >> i, features >> (i + 1)))
    self.later = {i: [f'residual_{i}_{j}' for j in range(residuals)] for i in (1, 2)}
    for i, names in self.later.items():
      self.add_module(f'read_{i}', read(text_features, width))
      for name in names:
        self.add_module(name, GluResidual(2 * width))
      self.add_module(f'up_{i}', GluUp(2 * width, width))
    for i in range(3):
      self.add_module(f'pixels_{i}', conv(width, 3))

  def forward(self, words, mask, sentence, z):
    """Images of three scales, mean and log variance of the condition."""
    noise, draw = z[:, :self.noise], z[:, self.noise:]
    mean, log_variance = F.glu(self.condition['moments'](sentence), 1).chunk(2, 1)
    condition = mean + torch.exp(log_variance / 2) * draw
    x = F.glu(self.norm_start(self.start(torch.cat([condition, noise], 1))), 1)
    x = as_map(x, BASE)
    for name in self.first:
      x = self.get_submodule(name)(x)
    images = [torch.tanh(self.pixels_0(x))]
    for i, names in self.later.items():
      x = self.get_submodule(f'read_{i}')(x, words, mask)
      for name in names:
        x = self.get_submodule(name)(x)
      x = self.get_submodule(f'up_{i}')(x)
      images.append(torch.tanh(self.get_submodule(f'pixels_{i}')(x)))
    return images, (mean, log_variance)


class ConvNorm(nn.Module):
  def __init__(self, *sizes):
    super().__init__()
    self.conv, self.norm = conv(*sizes), nn.BatchNorm2d(sizes[1])

  def forward(self, x):
    return self.norm(self.conv(x))


class ScaleDiscriminator(nn.Module):
  def __init__(self, side, width, text_features, first, block):
    super().__init__()
    halvings = (side // BASE).bit_length() - 1
    self.down_0 = first(3, width, 4, 2)
    self.names = ['down_0']
    for i in range(1, halvings):
      self._append(f'down_{i}', block(width << (i - 1), width << i, 4, 2))
    for i in range(halvings - 2, 2, -1):
      self._append(f'narrow_{i}', block(width << (i + 1), width << i))
    last = width << min(halvings - 1, 3)
    self.joint = block(last + text_features, last)
    self.logit_alone, self.logit_paired = whole(last, bias=True), whole(last, bias=True)

  def _append(self, name, module):
    self.add_module(name, module)
    self.names.append(name)

  def forward(self, x, *sentences):
    """The logit [b] of the images alone, and those with each of the sentences."""
    for name in self.names:
      x = leaky(self.get_submodule(name)(x))
    paired = [self.logit_paired(leaky(self.joint(everywhere(x, s)))).flatten() for s in sentences]
    return self.logit_alone(x).flatten(), paired


class StackedDiscriminator(nn.Module):
  def __init__(self, size, width, text_features, first, block):
    super().__init__()
    for i, side in enumerate(scales(size)):
      self.add_module(f'scale_{i}', ScaleDiscriminator(side, width, text_features, first, block))

  def forward(self, images, *sentences):
    return [self.get_submodule(f'scale_{i}')(x, *sentences) for i, x in enumerate(images)]


def spectral(discriminator: nn.Module) -> None:
  """Normalises all convolutions but those that give logits; a power iteration at every call."""
  for name, module in list(discriminator.named_modules()):
    if isinstance(module, nn.Conv2d) and not name.split('.')[-1].startswith('logit'):
      parametrizations.spectral_norm(module)
