"""The networks that are not trained: DAMSM with a SqueezeNet (arXiv 1711.10485), and CLIP."""
from __future__ import annotations

import dataclasses

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import rnn

from torch_networks import weights
from torch_networks.layers import conv

MEAN = (123.68, 116.779, 103.939)                        # of ImageNet's RGB in [0, 255]
SQUEEZES = (16, 16, 32, 32, 48, 48, 64, 64)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def channels(numbers):
  return torch.tensor(numbers)[:, None, None]


class SqueezeNet(nn.Module):
  """Images of 128 px in [-1, 1] to the map of fire 5 and the mean of fire 9's."""

  def __init__(self):
    super().__init__()
    self.conv1 = conv(3, 64, 3, 2, padding=0, bias=True)
    width = 64
    for i, squeeze in enumerate(SQUEEZES, 2):
      self.add_module(f'fire{i}_squeeze1x1', conv(width, squeeze, 1, bias=True))
      for side in (1, 3):
        self.add_module(f'fire{i}_expand{side}x{side}',
                        conv(squeeze, 4 * squeeze, side, bias=True))
      width = 8 * squeeze

  def forward(self, x):
    x = (127.5 * (x + 1) - channels(MEAN)).flip(1)
    x = F.relu(self.conv1(x))
    for i in range(2, 10):
      if i in (2, 4, 6):
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
      layer = lambda name, x: F.relu(self.get_submodule(f'fire{i}_{name}')(x))
      x = layer('squeeze1x1', x)
      x = torch.cat([layer('expand1x1', x), layer('expand3x3', x)], 1)
      if i == 5:
        regions = x
    return regions, x.mean((2, 3))


class Damsm(nn.Module):
  def __init__(self, words: int, embedding: int = 300, width: int = 256):
    super().__init__()
    self.embed = nn.Embedding(words, embedding)
    self.lstm = nn.LSTM(embedding, width // 2, batch_first=True, bidirectional=True)
    self.backbone = SqueezeNet()
    self.regions = conv(256, width, 1)
    self.embedding = nn.Linear(512, width)
    self.requires_grad_(False)

  def load(self, frozen):
    """frozen: our {'text': ..., 'image': ...}; 'image' may be missing."""
    captions = frozen['text']['params']['captions']
    weights.load(self.embed, captions['embed'])
    weights.load_lstm(self.lstm, captions['lstm'])
    if 'image' in frozen:
      image = frozen['image']['params']
      weights.load(self.backbone, image['backbone'])
      for name, array in image['images'].items():
        weights.load(getattr(self, name), array)

  def read(self, tokens, mask):
    """Words [b, t, e] and sentences [b, e]."""
    packed = rnn.pack_padded_sequence(self.embed(tokens), mask.sum(1), True, False)
    words, (last, _) = self.lstm(packed)
    words, _ = rnn.pad_packed_sequence(words, True, total_length=tokens.shape[1])
    return words, torch.cat([last[0], last[1]], 1)

  def look(self, images):
    """Embeddings [b, e] and regions [b, n, e] of images in [-1, 1]."""
    x = F.interpolate(images, size=(128, 128), mode='bilinear', align_corners=True)
    regions, pool = self.backbone(x)
    return self.embedding(pool), self.regions(regions).flatten(2).transpose(1, 2)


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Of a CLIP: features of a code, pixels, layers and width of both transformers, vocabulary."""
  features: int
  side: int
  grid: int
  width: int
  layers: int
  text_width: int
  text_layers: int
  pieces: int
  positions: int = 77
  head: int = 64


class Layer(nn.Module):
  def __init__(self, width, heads, causal):
    super().__init__()
    self.heads, self.causal = heads, causal
    self.norm_attend, self.norm_widen = nn.LayerNorm(width), nn.LayerNorm(width)
    for name in ('query', 'key', 'value', 'attended'):
      self.add_module(name, nn.Linear(width, width))
    self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

  def forward(self, x):
    seen = self.norm_attend(x)
    split = lambda h: h.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
    h = F.scaled_dot_product_attention(split(self.query(seen)), split(self.key(seen)),
                                       split(self.value(seen)), is_causal=self.causal)
    x = x + self.attended(h.transpose(1, 2).flatten(2))
    h = self.widen(self.norm_widen(x))
    return x + self.narrow(h * torch.sigmoid(1.702 * h))


class ImageTower(nn.Module):
  def __init__(self, s: Sizes):
    super().__init__()
    self.grid, patch = s.grid, s.side // s.grid
    self.patches = nn.Conv2d(3, s.width, patch, patch, bias=False)
    self.register_parameter('class', nn.Parameter(torch.zeros(s.width)))
    self.positions = nn.Embedding(1 + s.grid ** 2, s.width)
    self.norm_before, self.norm_after = nn.LayerNorm(s.width), nn.LayerNorm(s.width)
    self.names = [f'layer_{i}' for i in range(s.layers)]
    for name in self.names:
      self.add_module(name, Layer(s.width, s.width // s.head, False))
    self.project = nn.Linear(s.width, s.features, bias=False)

  def layers(self, x, extra):
    """What is after each layer, of a map [b, e, g, g]; `extra` [b, 1, e] by layer."""
    x = torch.cat([getattr(self, 'class').expand(len(x), 1, -1), x.flatten(2).transpose(1, 2)], 1)
    x, after = self.norm_before(x + self.positions.weight), []
    for i, name in enumerate(self.names):
      layer = self.get_submodule(name)
      x = layer(torch.cat([x, extra[i]], 1))[:, :-1] if i in extra else layer(x)
      after.append(x)
    return after

  def map(self, x):
    return x[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))

  def code(self, x):
    return self.project(self.norm_after(x[:, 0]))


class TextTower(nn.Module):
  def __init__(self, s: Sizes):
    super().__init__()
    self.words, self.positions = (nn.Embedding(n, s.text_width) for n in (s.pieces, s.positions))
    self.names = [f'layer_{i}' for i in range(s.text_layers)]
    for name in self.names:
      self.add_module(name, Layer(s.text_width, s.text_width // s.head, True))
    self.norm_final = nn.LayerNorm(s.text_width)
    self.project = nn.Linear(s.text_width, s.features, bias=False)

  def forward(self, tokens):
    x = self.words(tokens) + self.positions.weight[:tokens.shape[1]]
    for name in self.names:
      x = self.get_submodule(name)(x)
    last = self.norm_final(x)[torch.arange(len(x)), tokens.argmax(1)]
    return self.project(last)


class Clip(nn.Module):
  def __init__(self, sizes: Sizes):
    super().__init__()
    self.sizes = sizes
    self.image_transformer, self.text_transformer = ImageTower(sizes), TextTower(sizes)
    self.requires_grad_(False)

  def load(self, frozen):
    weights.load(self, frozen['clip']['params'])

  def read(self, tokens):
    return self.text_transformer(tokens)

  def look(self, images, taps):
    """Codes [b, d], and maps [b, k, e, g, g] after the layers `taps`, of images in [-1, 1]."""
    x = (images + 1) / 2
    if x.shape[-1] != self.sizes.side:
      x = F.interpolate(x, size=(self.sizes.side,) * 2, mode='bicubic', antialias=True)
    transformer = self.image_transformer
    after = transformer.layers(
      transformer.patches((x - channels(CLIP_MEAN)) / channels(CLIP_STD)), {}
    )
    return transformer.code(after[-1]), torch.stack([transformer.map(after[i]) for i in taps], 1)

  def retell(self, x, prompts, first):
    """A map in place of the patches, through all layers; layer `first + i` sees prompt i too."""
    extra = {first + i: prompts[:, i:i + 1] for i in range(prompts.shape[1])}
    return self.image_transformer.map(self.image_transformer.layers(x, extra)[-1])
