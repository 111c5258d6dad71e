"""XMC-GAN's networks once more, from the paper and in numpy: float64, plain, no shared code.

`params` are the trees of `xmc_jax.networks.xmc_gan`; only the names of their leaves are common.
"""
import numpy as np

UP = {32: 3, 64: 4, 128: 5, 256: 6}       # number of blocks, by side of the image


def wide(tree):
  return {k: wide(v) if isinstance(v, dict) else np.asarray(v, np.float64) for k, v in tree.items()}


def dense(p, x):
  return x @ p['kernel'] + p['bias']


def conv3x3(p, x):
  h, w = x.shape[1:3]
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  return p['bias'] + sum(padded[:, i:i + h, j:j + w] @ p['kernel'][i, j]
                         for i in range(3) for j in range(3))


def relu(x):
  return np.maximum(x, 0)


def up(x, factor=2):
  return x.repeat(factor, 1).repeat(factor, 2)


def pool(x):
  return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def unit(x):
  return x / np.sqrt((x * x).sum(-1, keepdims=True))


def batch_norm(x):
  return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)


def conditional_norm(p, x, condition):
  """condition [b, d], or a map [b, k, k, d] that is enlarged to the size of x."""
  if condition.ndim == 2:
    condition = condition[:, None, None]
  else:
    condition = up(condition, x.shape[1] // condition.shape[1])
  return batch_norm(x) * (1 + dense(p['gamma'], condition)) + dense(p['beta'], condition)


def up_block(p, x, condition):
  h = conv3x3(p['conv_up'], up(relu(conditional_norm(p['norm_in'], x, condition))))
  h = conv3x3(p['conv_out'], relu(conditional_norm(p['norm_out'], h, condition)))
  return h + dense(p['shortcut'], up(x))


def word_context(regions, words, mask):
  cosines = np.einsum('bne,bte->bnt', unit(regions), unit(words))
  weights = np.exp(15 * cosines) * mask[:, None]
  return np.einsum('bnt,bte->bne', weights / weights.sum(-1, keepdims=True), unit(words))


def generator(params, size, text, z):
  """Images [b, size, size, 3] in [0, 1], statistics of the batch."""
  p, b = wide(params), len(z)
  condition = np.concatenate([dense(p['sentence'], text.sentence), z], -1)
  x = dense(p['start'], z.astype(float)).reshape(b, 4, 4, -1)
  for i in (0, 1):
    x = up_block(p[f'block_{i}'], x, condition)
  words = word_context(dense(p['regions'], x).reshape(b, 256, -1), text.words, text.mask)
  tiled = np.broadcast_to(condition[:, None, None], (b, 16, 16, condition.shape[-1]))
  spatial = np.concatenate([words.reshape(b, 16, 16, -1), tiled], -1)
  for i in range(2, UP[size]):
    x = up_block(p[f'block_{i}'], x, spatial)
  x = relu(conditional_norm(p['norm_out'], x, spatial))
  return (np.tanh(conv3x3(p['conv_out'], x)) + 1) / 2


def spectral(params, vectors):
  """Every kernel divided by v'Wu' of one power iteration from its vector."""
  if 'kernel' not in vectors:
    return {k: spectral(v, vectors[k]) for k, v in params.items()}
  w = np.asarray(params['kernel'], float)
  matrix = w.reshape(-1, w.shape[-1])
  v = unit(matrix @ np.asarray(vectors['kernel'], float))
  return params | {'kernel': w / (v @ matrix @ unit(v @ matrix))}


def discriminator(params, size, image, text):
  """(logits [b], features [b, d], regions [b, 256, e], sentence [b, d]) by normalized params."""
  p, x, last = wide(params), image.astype(float), UP[size]
  for i in range(last + 1):
    block, h = p[f'block_{i}'], x if i == 0 else relu(x)
    h = conv3x3(block['conv_pool'], relu(conv3x3(block['conv_in'], h)))
    if i == 0:
      x = pool(h) + dense(block['shortcut'], pool(x))
    elif i < last:
      x = pool(h) + pool(dense(block['shortcut'], x))
    else:                                   # the last block keeps the size
      x = h + (dense(block['shortcut'], x) if 'shortcut' in block else x)
    if x.shape[1] == 16:
      regions = dense(p['regions'], x)
  features = relu(x).sum((1, 2))
  sentence = dense(p['sentence'], text.sentence)
  logits = dense(p['logit'], features)[:, 0] + (features * sentence).sum(-1)
  return logits, features, regions.reshape(len(image), 256, -1), sentence
