"""SSA-GAN's networks in torch, written from the paper's figures and tables; no module of ours.

Functions of our parameter trees, as numpy, of which they know the names and the layout. Inside they
are channels-first and in [-1, 1], as torch's are; maps go in and come out channels-last.
"""
import torch
from torch.nn import functional as F
from torch_stacked import conv, linear, tensor, to_nchw, to_nhwc

EPSILON = 1e-5


def norm(x, stats, scale=None, bias=None):
  """Of all rows; with the running statistics `stats` if there are any."""
  mean, var = (tensor(stats[k]) if stats else None for k in ('mean', 'var'))
  return F.batch_norm(x, mean, var, scale, bias, training=not stats, eps=EPSILON)


def affine_norm(x, p, stats):
  return norm(x, stats.get('norm'), tensor(p['scale']), tensor(p['bias']))


def pixelwise(x, p):
  """A 1x1 convolution."""
  kernel = tensor(p['kernel']).T[:, :, None, None]
  return F.conv2d(x, kernel, tensor(p['bias']))


def modulation(x, sentence, mask, p, stats):
  """Maps [b, c, h, w], sentence [b, e], mask [b, 1, h, w] in [0, 1]."""
  of = lambda name: linear(F.relu(linear(sentence, p[f'{name}_hidden'])), p[name])[..., None, None]
  x = norm(x, stats.get('norm'))
  return (1 + mask * of('gamma')) * x + mask * of('beta')


def mask_logits(x, p, stats):
  h = F.relu(affine_norm(conv(x, p['conv']), p['norm'], stats.get('norm', {})))
  return pixelwise(h, p['logit'])


def up_block(x, sentence, mask, p, stats):
  h = x
  for where in ('in', 'out'):
    h = modulation(h, sentence, mask, p[f'norm_{where}'], stats.get(f'norm_{where}', {}))
    h = conv(F.relu(h), p[f'conv_{where}'])
  shortcut = pixelwise(x, p['shortcut']) if 'shortcut' in p else x
  return shortcut + tensor(p['gate']) * h


def generator(sentence, z, p, stats=None):
  """Images [b, s, s, 3] in [0, 1]; with the statistics of the rows, or the running `stats`."""
  stats, sentence = stats or {}, tensor(sentence)
  x = linear(tensor(z), p['start'])
  x = x.view(len(x), 4, 4, -1).permute(0, 3, 1, 2)
  part = lambda name: (p[name], stats.get(name, {}))
  logits = mask_logits(x, *part('mask_0'))
  blocks = sum(name.startswith('block_') for name in p)
  for i in range(blocks):
    if i:
      x = F.interpolate(x, scale_factor=2, mode='nearest')
      logits = F.interpolate(logits, scale_factor=2, mode='bilinear', align_corners=True)
    x = up_block(x, sentence, torch.sigmoid(logits), *part(f'block_{i}'))
    if i < blocks - 1:
      logits = mask_logits(x, *part(f'mask_{i + 1}'))
  x = F.leaky_relu(affine_norm(x, p['norm'], stats.get('norm', {})), 0.2)
  return to_nhwc((torch.tanh(conv(x, p['pixels'])) + 1) / 2)


def down_block(x, p):
  act = lambda x: F.leaky_relu(x, 0.2)
  h = act(conv(act(conv(x, p['conv_down'], 2)), p['conv']))
  if h.shape[1] != x.shape[1]:
    x = pixelwise(x, p['shortcut'])
  return F.avg_pool2d(x, 2) + tensor(p['gate']) * h


def discriminator(image, sentence, p):
  """Logits [b] of torch maps [b, 3, s, s] in [-1, 1] and sentences [b, e]."""
  x = conv(image, p['start'])
  for name in sorted(name for name in p if name.startswith('block_')):
    x = down_block(x, p[name])
  x = torch.cat([x, sentence[:, :, None, None].expand(-1, -1, 4, 4)], 1)
  return conv(F.leaky_relu(conv(x, p['joint']), 0.2), p['logit'], 1, 0).flatten()


def grad_norm_sq(image, sentence, p):
  """Squared length [b] of the gradient of the logits in images [b, s, s, 3] and sentences."""
  inputs = [to_nchw(image).requires_grad_(), tensor(sentence).requires_grad_()]
  slopes = torch.autograd.grad(discriminator(*inputs, p).sum(), inputs)
  return sum(x.square().flatten(1).sum(1) for x in slopes).numpy()
