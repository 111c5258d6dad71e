"""GALIP's own networks in numpy, slow and of any precision, written from the paper's description.

Functions of our parameter trees, of which they know the names and the layout. The generator makes
images larger before anything else in a block, as the released code does.
"""
import numpy as np


def leaky(x):
  return np.where(x > 0, x, 0.2 * x)


def conv(x, p, padding):
  """Sum over the places of the kernel."""
  kernel, k = p['kernel'], len(p['kernel'])
  x = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
  h, w = x.shape[1] - k + 1, x.shape[2] - k + 1
  return sum(x[:, i:i + h, j:j + w] @ kernel[i, j] for i in range(k) for j in range(k)
             ) + p.get('bias', 0)


def dense(x, p):
  return x @ p['kernel'] + p['bias']


def enlarged(x, side):
  old = x.shape[1]
  return np.stack([np.stack([x[:, i * old // side, j * old // side] for j in range(side)], 1)
                   for i in range(side)], 1)


def fuse(x, condition, p):
  for i in range(2):
    gamma, beta = (dense(np.maximum(dense(condition, p[f'{name}_{i}_hidden']), 0), p[f'{name}_{i}'])
                   for name in ('gamma', 'beta'))
    x = leaky(gamma[:, None, None] * x + beta[:, None, None])
  return x


def bridge_block(x, condition, p):
  h = fuse(conv(x, p['conv_in'], 1), condition, p['fuse_in'])
  return x + fuse(conv(h, p['conv_out'], 1), condition, p['fuse_out'])


def up_block(x, condition, side, p):
  x = enlarged(x, side)
  h = conv(fuse(x, condition, p['fuse_in']), p['conv_in'], 1)
  h = conv(fuse(h, condition, p['fuse_out']), p['conv_out'], 1)
  return (dense(x, p['shortcut']) if 'shortcut' in p else x) + h


def generator(p, run_clip, first, grid, sides, sentence, z):
  """Images about [-1, 1]; run_clip: (map, prompts, first layer of a prompt) -> map."""
  condition = np.concatenate([z, sentence], 1)
  x = dense(z, p['start']).reshape(len(z), grid, grid, -1)
  for i in range(4):
    x = bridge_block(x, condition, p[f'bridge_{i}'])
  bridge = conv(x, p['bridge'], 2)
  prompts = dense(condition, p['prompts']).reshape(len(z), -1, bridge.shape[-1])
  x = conv(bridge + 0.1 * np.asarray(run_clip(bridge, prompts, first)), p['join'], 2)
  for i, side in enumerate(sides):
    x = up_block(x, condition, side, p[f'block_{i}'])
  return conv(leaky(x), p['pixels'], 1)


def reading(x, p):
  return p['gate'] * leaky(conv(leaky(conv(x, p['conv_in'], 1)), p['conv_out'], 1))


def discriminator(p, maps, sentence):
  """maps [b, k, g, g, e], sentence [b, d] -> logits [b]."""
  x = maps[:, 0]
  for i in range(1, maps.shape[1]):
    q = p[f'read_{i - 1}']
    x = x + reading(x, q) + q['gate_other'] * maps[:, i]
  q = p['read_out']
  x = dense(x, q['shortcut']) + reading(x, q)
  tiled = np.tile(sentence[:, None, None], (1, *x.shape[1:3], 1))
  h = leaky(conv(np.concatenate([x, tiled], -1), p['head']['joint'], 0))
  return conv(h, p['head']['logit'], 0)[:, 0, 0, 0]
