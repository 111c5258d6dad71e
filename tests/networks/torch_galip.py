"""GALIP's own networks in torch, written from the paper's description; no module of ours.

Functions of our parameter trees, as numpy, of which they know the names and the layout. Inside they
are channels-first, as torch's are, and maps are enlarged by torch's own nearest pixels.
"""
import torch
from torch.nn import functional as F
from torch_stacked import conv, linear, tensor, to_nchw, to_nhwc


def leaky(x):
  return F.leaky_relu(x, 0.2)


def fuse(x, condition, p):
  for i in range(2):
    gamma, beta = (linear(F.relu(linear(condition, p[f'{name}_{i}_hidden'])), p[f'{name}_{i}'])
                   for name in ('gamma', 'beta'))
    x = leaky(gamma[..., None, None] * x + beta[..., None, None])
  return x


def pointwise(x, p):
  """A convolution of 1x1."""
  return F.conv2d(x, tensor(p['kernel']).T[..., None, None], tensor(p['bias']))


def bridge_block(x, condition, p):
  h = fuse(conv(x, p['conv_in']), condition, p['fuse_in'])
  return x + fuse(conv(h, p['conv_out']), condition, p['fuse_out'])


def up_block(x, condition, side, p):
  x = F.interpolate(x, size=(side, side), mode='nearest')
  h = conv(fuse(x, condition, p['fuse_in']), p['conv_in'])
  h = conv(fuse(h, condition, p['fuse_out']), p['conv_out'])
  return (pointwise(x, p['shortcut']) if 'shortcut' in p else x) + h


def generator(p, run_clip, grid, sides, sentence, z):
  """run_clip: (map [b, g, g, e], prompts [b, p, e]) of numpy -> map. Images [b, h, w, 3]."""
  condition = torch.cat([tensor(z), tensor(sentence)], 1)
  # Our linear map gives places before channels.
  x = linear(tensor(z), p['start']).reshape(len(z), grid, grid, -1).permute(0, 3, 1, 2)
  for i in range(4):
    x = bridge_block(x, condition, p[f'bridge_{i}'])
  bridge = conv(x, p['bridge'], padding=2)
  prompts = linear(condition, p['prompts']).reshape(len(z), -1, bridge.shape[1])
  from_clip = to_nchw(run_clip(to_nhwc(bridge), prompts.numpy()))
  x = conv(bridge + 0.1 * from_clip, p['join'], padding=2)
  for i, side in enumerate(sides):
    x = up_block(x, condition, side, p[f'block_{i}'])
  return to_nhwc(conv(leaky(x), p['pixels']))


def reading(x, other=None, *, p):
  h = tensor(p['gate']) * leaky(conv(leaky(conv(x, p['conv_in'])), p['conv_out']))
  if other is None:
    return pointwise(x, p['shortcut']) + h
  return x + h + tensor(p['gate_other']) * other


def discriminator(p, maps, sentence):
  """torch maps [b, k, e, g, g] and sentence [b, d], with gradients -> logits [b]."""
  x = maps[:, 0]
  for i in range(1, maps.shape[1]):
    x = reading(x, maps[:, i], p=p[f'read_{i - 1}'])
  x = reading(x, p=p['read_out'])
  tiled = sentence[..., None, None].expand(-1, -1, *x.shape[2:])
  h = leaky(conv(torch.cat([x, tiled], 1), p['head']['joint'], padding=0))
  return conv(h, p['head']['logit'], padding=0).flatten()


def grad_norm_sq(p, maps, sentence):
  """Squared length of the gradient of each row's logit in its maps and sentence, by autograd."""
  pair = [x.clone().requires_grad_() for x in (maps, sentence)]
  found = torch.autograd.grad(discriminator(p, *pair).sum(), pair)
  return sum(x.square().flatten(1).sum(1) for x in found)
