"""DF-GAN's generator in torch, written from the paper's figures and tables; no module of ours.

A function of our parameter tree, as numpy, of which it knows the names and the layout. Blocks are
those of `torch_galip`, and the discriminator is that of `torch_ssa_gan`, which counts its blocks.
"""
import torch
from torch_galip import leaky, up_block
from torch_ssa_gan import discriminator, grad_norm_sq
from torch_stacked import conv, linear, tensor, to_nchw, to_nhwc

__all__ = ['discriminator', 'generator', 'grad_norm_sq', 'tensor', 'to_nchw', 'to_nhwc', 'up_block']


def generator(sentence, z, p):
  """Images [b, s, s, 3] in [0, 1]."""
  z = tensor(z)
  condition = torch.cat([z, tensor(sentence)], 1)
  x = linear(z, p['start'])
  x = x.view(len(x), 4, 4, -1).permute(0, 3, 1, 2)
  for i in range(sum(name.startswith('block_') for name in p)):
    x = up_block(x, condition, 2 * x.shape[-1], p[f'block_{i}'])
  return to_nhwc((torch.tanh(conv(leaky(x), p['pixels'])) + 1) / 2)
