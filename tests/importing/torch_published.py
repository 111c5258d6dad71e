"""The published generators in torch, as functions of state dicts with the published names.

Written from the papers; no module, name or layout of ours. Maps are channels first, images go out
as uint8 [b, h, w, 3].
"""
import numpy as np
import torch
from torch.nn import functional as F


class State:
  """The tensors below a prefix of a state dict."""

  def __init__(self, tensors, prefix=''):
    self.tensors, self.prefix = tensors, prefix

  def __truediv__(self, name):
    return State(self.tensors, f'{self.prefix}{name}.')

  def __getitem__(self, name):
    return torch.tensor(np.asarray(self.tensors[self.prefix + name], np.float32))

  def get(self, name):
    return self[name] if self.prefix + name in self.tensors else None

  def __contains__(self, module):
    return any(name.startswith(f'{self.prefix}{module}.') for name in self.tensors)

  def linear(self, x):
    return F.linear(x, self['weight'], self.get('bias'))

  def conv(self, x):
    w = self['weight']
    w = w if w.ndim == 4 else w[..., None, None]
    return F.conv2d(x, w, self.get('bias'), padding=w.shape[-1] // 2)

  def words(self, x):
    """A convolution of width 1 over [b, c, t]."""
    return F.conv1d(x, self['weight'].reshape(*self['weight'].shape[:2], 1), self.get('bias'))

  def norm(self, x):
    return F.batch_norm(x, self['running_mean'], self['running_var'], self.get('weight'),
                        self.get('bias'))


def levels(x):
  """uint8 of a map in [-1, 1]."""
  x = ((x.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1)
  return (x * 255).round().numpy().astype(np.uint8)


def damsm_text(state, tokens, lengths):
  """words [b, e, t] and sentences [b, e], by torch's own LSTM on packed sequences."""
  s = State(state)
  width = s['rnn.weight_hh_l0'].shape[1]
  lstm = torch.nn.LSTM(s['encoder.weight'].shape[1], width, bidirectional=True, batch_first=True)
  lstm.load_state_dict({name.removeprefix('rnn.'): s[name] for name in state
                        if name.startswith('rnn.')})
  packed = torch.nn.utils.rnn.pack_padded_sequence(
      F.embedding(torch.from_numpy(tokens).long(), s['encoder.weight']), torch.tensor(lengths),
      batch_first=True, enforce_sorted=False)
  with torch.no_grad():
    words, (last, _) = lstm(packed)
  words, _ = torch.nn.utils.rnn.pad_packed_sequence(words, batch_first=True,
                                                    total_length=tokens.shape[1])
  return words.transpose(1, 2), torch.cat([last[0], last[1]], 1)


def attended(x, keys, values, mask):
  """x [b, c, h, w]; keys and values [b, c, t]; mask [b, t]."""
  b, c, h, w = x.shape
  scores = x.reshape(b, c, h * w).transpose(1, 2) @ keys
  weights = scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1)
  return (values @ weights.transpose(1, 2)).reshape(b, -1, h, w)


def attngan_reads(s, x, words, mask):
  words = (s / 'att.conv_context').conv(words[..., None])[..., 0]
  return torch.cat([x, attended(x, words, words, mask)], 1)


def dm_gan_reads(s, x, words, mask):
  mean = x.mean((2, 3))
  gate = torch.sigmoid((s / 'A').linear(words.transpose(1, 2)).transpose(1, 2)
                       + (s / 'B').linear(mean)[..., None])
  memory = (gate * F.relu((s / 'M_w.0').words(words))
            + (1 - gate) * F.relu((s / 'M_r.0').words(mean[..., None])))
  read = attended(x, F.relu((s / 'key.0').words(memory)), F.relu((s / 'value.0').words(memory)),
                  mask)
  response = torch.sigmoid((s / 'response_gate.0').conv(torch.cat([x, read], 1)))
  x = x * (1 - response) + read * response
  return torch.cat([x, x], 1)


def stacked(state, words, sentence, mask, z, noise, reads):
  """The last image; `z` is the noise, then the draw of the condition."""
  s, z, mask = State(state), torch.from_numpy(z), torch.from_numpy(mask)
  mean, log_variance = F.glu((s / 'ca_net.fc').linear(sentence), 1).chunk(2, 1)
  condition = mean + torch.exp(0.5 * log_variance) * z[:, noise:]
  first = s / 'h_net1'
  x = (first / 'fc.0').linear(torch.cat([condition, z[:, :noise]], 1))
  x = F.glu((first / 'fc.1').norm(x), 1)
  x = x.view(len(x), -1, 4, 4)

  def up(block, x):
    x = (block / '1').conv(F.interpolate(x, scale_factor=2, mode='nearest'))
    return F.glu((block / '2').norm(x), 1)

  i = 1
  while f'upsample{i}' in first:
    x, i = up(first / f'upsample{i}', x), i + 1
  for stage in (s / 'h_net2', s / 'h_net3'):
    x, i = reads(stage, x, words, mask), 0
    while f'residual.{i}' in stage:
      block = stage / f'residual.{i}.block'
      h = F.glu((block / '1').norm((block / '0').conv(x)), 1)
      x, i = x + (block / '4').norm((block / '3').conv(h)), i + 1
    x = up(stage / 'upsample', x)
  return levels(torch.tanh((s / 'img_net3.img.0').conv(x)))


def two_layers(s, condition):
  return (s / 'linear2').linear(F.relu((s / 'linear1').linear(condition)))[..., None, None]


def fused(s, x, condition):
  """A deep fusion block of DF-GAN and GALIP."""
  for i in (0, 1):
    gamma, beta = (two_layers(s / f'affine{i}.fc_{what}', condition) for what in ('gamma', 'beta'))
    x = F.leaky_relu(gamma * x + beta, 0.2)
  return x


def fused_up_block(s, x, condition, side):
  x = F.interpolate(x, size=(side, side), mode='nearest')
  h = (s / 'c1').conv(fused(s / 'fuse1', x, condition))
  h = (s / 'c2').conv(fused(s / 'fuse2', h, condition))
  return ((s / 'c_sc').conv(x) if 'c_sc' in s else x) + h


def df_gan(state, sentence, z):
  s, z = State(state), torch.from_numpy(z)
  condition, i = torch.cat([z, sentence], 1), 0
  x = (s / 'fc').linear(z)
  x = x.view(len(x), -1, 4, 4)
  while f'GBlocks.{i}' in s:
    x, i = fused_up_block(s / f'GBlocks.{i}', x, condition, 8 << i), i + 1
  return levels(torch.tanh((s / 'to_rgb.1').conv(F.leaky_relu(x, 0.2))))


def ssa_gan(state, sentence, z):
  s = State(state)

  def mask_logits(s, x):
    return (s / '3').conv(F.relu((s / '1').norm((s / '0').conv(x))))

  def modulated(s, x, mask):
    gamma, beta = (two_layers(s / f'fc_{what}', sentence) for what in ('gamma', 'beta'))
    return F.relu((1 + mask * gamma) * (s / 'batch_norm2d').norm(x) + mask * beta)

  x = (s / 'fc').linear(torch.from_numpy(z))
  x = x.view(len(x), -1, 4, 4)
  logits, i = mask_logits(s / 'conv_mask', x), 0
  while f'block{i}' in s:
    block = s / f'block{i}'
    if i:
      x = F.interpolate(x, scale_factor=2, mode='nearest')
      logits = F.interpolate(logits, scale_factor=2, mode='bilinear', align_corners=True)
    mask = torch.sigmoid(logits)
    h = (block / 'c1').conv(modulated(block / 'affine0', x, mask))
    h = (block / 'c2').conv(modulated(block / 'affine2', h, mask))
    x = ((block / 'c_sc').conv(x) if 'c_sc' in block else x) + block['gamma'] * h
    if 'conv_mask' in block:
      logits = mask_logits(block / 'conv_mask', x)
    i += 1
  x = F.leaky_relu((s / 'conv_img.0').norm(x), 0.2)
  return levels(torch.tanh((s / 'conv_img.2').conv(x)))


def clip_layers(s, x, heads, prompts, first):
  """A map [b, e, g, g] through all layers, with prompts [b, p, e] from layer `first` on."""
  b, e, g, _ = x.shape
  x = x.flatten(2).transpose(1, 2)
  x = torch.cat([s['class_embedding'].expand(b, 1, e), x], 1) + s['positional_embedding']
  norm = lambda s, x: F.layer_norm(x, (e,), s['weight'], s['bias'])
  x, i = norm(s / 'ln_pre', x), 0
  while f'transformer.resblocks.{i}' in s:
    layer = s / f'transformer.resblocks.{i}'
    prompted = 0 <= i - first < prompts.shape[1]
    x = torch.cat([x, prompts[:, i - first:i - first + 1]], 1) if prompted else x
    h = norm(layer / 'ln_1', x).transpose(0, 1)
    attn = layer / 'attn'
    h, _ = F.multi_head_attention_forward(
        h, h, h, e, heads, attn['in_proj_weight'], attn['in_proj_bias'], None, None, False, 0,
        attn['out_proj.weight'], attn['out_proj.bias'], training=False, need_weights=False)
    x = x + h.transpose(0, 1)
    h = (layer / 'mlp.c_fc').linear(norm(layer / 'ln_2', x))
    x = x + (layer / 'mlp.c_proj').linear(h * torch.sigmoid(1.702 * h))
    x, i = x[:, :-1] if prompted else x, i + 1
  return x[:, 1:].transpose(1, 2).reshape(b, e, g, g)


def galip(state, sentence, z, sides, heads, first):
  """`state` is that of netG, its CLIP too."""
  s, z = State(state), torch.from_numpy(z)
  mapping, condition = s / 'mapping', torch.cat([z, sentence], 1)

  width = s['to_rgb.1.weight'].shape[1]
  x = (s / 'fc_code').linear(z)
  side = round((x.shape[1] / width) ** 0.5)
  x = x.view(len(z), width, side, side)
  for i in range(4):
    block = mapping / f'FBlocks.{i}'
    h = fused(block / 'fuse1', (block / 'conv1').conv(x), condition)
    x = x + fused(block / 'fuse2', (block / 'conv2').conv(h), condition)
  bridge = (mapping / 'conv_fuse').conv(x)
  prompts = (mapping / 'fc_prompt').linear(condition).view(len(z), -1, bridge.shape[1])
  from_clip = clip_layers(mapping / 'CLIP_ViT', bridge, heads, prompts, first)
  x = (mapping / 'conv').conv(bridge + 0.1 * from_clip)
  for i, side in enumerate(sides):
    x = fused_up_block(s / f'GBlocks.{i}', x, condition, side)
  return levels((s / 'to_rgb.1').conv(F.leaky_relu(x, 0.2)))
