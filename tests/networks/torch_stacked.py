"""AttnGAN's and DM-GAN's networks in torch, written from the papers' tables; no module of ours.

Functions of our parameter trees, as numpy, of which they know the names and the layout. Inside they
are channels-first and in [-1, 1], as torch's are.
"""
import numpy as np
import torch
from torch.nn import functional as F

EPSILON = 1e-5


def tensor(x):
  return torch.from_numpy(np.array(x, np.float32))


def to_nchw(x):
  return tensor(x).permute(0, 3, 1, 2)


def to_nhwc(x):
  return x.permute(0, 2, 3, 1).numpy()


def conv(x, p, stride=1, padding=1):
  bias = tensor(p['bias']) if 'bias' in p else None
  return F.conv2d(x, tensor(p['kernel']).permute(3, 2, 0, 1), bias, stride, padding)


def linear(x, p):
  return F.linear(x, tensor(p['kernel']).T, tensor(p['bias']) if 'bias' in p else None)


def batch_norm(x, p, stats=None):
  """With the statistics of the rows, or with the running ones of `stats`."""
  mean, var = (tensor(stats['norm'][k]) if stats else None for k in ('mean', 'var'))
  return F.batch_norm(x, mean, var, tensor(p['scale']), tensor(p['bias']), stats is None,
                      eps=EPSILON)


class Generator:
  """params, stats: our trees; no stats means training. read: one of the functions below."""

  def __init__(self, read, params, stats=None):
    self.read, self.p, self.s = read, params, stats or {}

  def norm(self, x, *path):
    p, s = self.p, self.s
    for name in path:
      p, s = p[name], s.get(name, {})
    return batch_norm(x, p, s or None)

  def up(self, x, name):
    x = F.interpolate(x, scale_factor=2, mode='nearest')
    return F.glu(self.norm(conv(x, self.p[name]['conv']), name, 'norm'), dim=1)

  def residual(self, x, name):
    p = self.p[name]
    h = F.glu(self.norm(conv(x, p['conv_in']), name, 'norm_in'), dim=1)
    return x + self.norm(conv(h, p['conv_out']), name, 'norm_out')

  def __call__(self, words, mask, sentence, z, noise_features):
    """Images of three scales in [0, 1] [b, s, s, 3], mean and log variance."""
    words, mask, sentence, z = tensor(words), torch.from_numpy(mask), tensor(sentence), tensor(z)
    noise, draw = z[:, :noise_features], z[:, noise_features:]
    moments = F.glu(linear(sentence, self.p['condition']['moments']), dim=1)
    mean, log_variance = moments.chunk(2, 1)
    condition = mean + torch.exp(0.5 * log_variance) * draw
    x = linear(torch.cat([condition, noise], 1), self.p['start'])
    x = F.glu(self.norm(x, 'norm_start'), dim=1)
    x = x.view(len(x), 4, 4, -1).permute(0, 3, 1, 2)
    for name in sorted(k for k in self.p if k.startswith('up_0_')):
      x = self.up(x, name)
    images = [self.image(x, 0)]
    for i in (1, 2):
      x = self.read(x, words, mask, self.p[f'read_{i}'])
      for name in sorted(k for k in self.p if k.startswith(f'residual_{i}_')):
        x = self.residual(x, name)
      x = self.up(x, f'up_{i}')
      images.append(self.image(x, i))
    return images, mean.numpy(), log_variance.numpy()

  def image(self, x, i):
    return to_nhwc((torch.tanh(conv(x, self.p[f'pixels_{i}'])) + 1) / 2)


def attended(x, keys, values, mask):
  """Queries x [b, c, h, w]; keys, values [b, t, c]."""
  b, c, h, w = x.shape
  scores = torch.bmm(x.reshape(b, c, h * w).transpose(1, 2), keys.transpose(1, 2))
  scores = scores.masked_fill(~mask[:, None], -torch.inf)
  return torch.bmm(scores.softmax(-1), values).transpose(1, 2).reshape(b, c, h, w)


def word_attention(x, words, mask, p):
  words = linear(words, p['words'])
  return torch.cat([x, attended(x, words, words, mask)], 1)


def dynamic_memory(x, words, mask, p):
  mean = F.avg_pool2d(x, x.shape[-1])[:, :, 0, 0]
  gate = torch.sigmoid(linear(words, p['gate_word']) + linear(mean, p['gate_mean'])[:, None])
  memory = (gate * F.relu(linear(words, p['write_word']))
            + (1 - gate) * F.relu(linear(mean, p['write_mean']))[:, None])
  read = attended(x, F.relu(linear(memory, p['key'])), F.relu(linear(memory, p['value'])), mask)
  both = torch.cat([x, read], 1)
  kernel = tensor(p['response']['kernel']).T[:, :, None, None]
  response = torch.sigmoid(F.conv2d(both, kernel, tensor(p['response']['bias'])))
  x = x * (1 - response) + read * response
  return torch.cat([x, x], 1)


def normalized_block(x, p, stride):
  return batch_norm(conv(x, p['conv'], stride), p['norm'])


def plain_block(x, p, stride):
  return conv(x, p, stride)


def discriminator(image, sentence, p, block):
  """Logits [b] of images [b, s, s, 3] in [0, 1] alone, and with their sentences."""
  act = lambda x: F.leaky_relu(x, 0.2)
  x = act(conv(to_nchw(image) * 2 - 1, p['down_0'], 2))
  for name in sorted(k for k in p if k.startswith('down_') and k != 'down_0'):
    x = act(block(x, p[name], 2))
  for name in sorted((k for k in p if k.startswith('narrow_')), reverse=True):
    x = act(block(x, p[name], 1))
  sentence = tensor(sentence)[:, :, None, None].expand(-1, -1, 4, 4)
  joint = act(block(torch.cat([x, sentence], 1), p['joint'], 1))
  logit = lambda x, name: conv(x, p[name], 4, 0).flatten().numpy()
  return logit(x, 'logit_alone'), logit(joint, 'logit_paired')


def spectrally_normalized(params, vectors):
  """The same tree with every kernel that has a vector divided by its estimate of sigma."""
  if not isinstance(params, dict):
    w = tensor(params).reshape(-1, params.shape[-1]).T        # [outputs, inputs]
    unit = lambda x: x / (x.norm() + 1e-12)
    v = unit(w.T @ tensor(vectors))
    u = unit(w @ v)
    return (tensor(params) / torch.dot(u, w @ v)).numpy()
  return {k: spectrally_normalized(p, vectors[k]) if k in vectors else p
          for k, p in params.items()}
