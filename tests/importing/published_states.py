"""Random state dicts with the names and shapes of the published files, at any size; needs no torch.

A layer is a name and the shape of its weight; `norm` stands for a BatchNorm.
"""
import numpy as np
import toys
from flax import traverse_util

from xmc_jax.encoders import inception
from xmc_jax.encoders.features import variables_spec


def norm(name, features):
  return {f'{name}.{leaf}': (features,) for leaf in (
      'weight', 'bias', 'running_mean', 'running_var')} | {f'{name}.num_batches_tracked': ()}


def layer(name, *shape, bias=True, weight='weight'):
  return {f'{name}.{weight}': shape} | ({f'{name}.bias': shape[:1]} if bias else {})


def conv(name, out, given, side=3, bias=False):
  return layer(name, out, given, side, side, bias=bias)


def filled(shapes, seed=0):
  """{name: array}: kernels keep the scale of what they map, statistics are sane."""
  state = {}
  for i, (name, shape) in enumerate(sorted(shapes.items())):
    x = toys.normal(1000 * seed + i, *shape)
    if name.endswith('running_var'):
      x = 1 + np.abs(x)
    elif len(shape) > 1:
      x = x * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith('.weight'):
      x = 1 + 0.1 * x
    elif name.endswith(('gamma', 'beta')):
      x = 0.5 + 0.1 * x
    elif not name.endswith(('weight_u', 'weight_v')):
      x = 0.2 * x
    state[name] = np.asarray(x, np.float32)
  return state


def stacked_generator(width, residuals, doublings, text, noise, condition, read):
  """AttnGAN's or DM-GAN's; `read(stage)` are the shapes of what reads the words."""
  first = width << doublings
  shapes = layer('ca_net.fc', 4 * condition, text)
  shapes |= layer('h_net1.fc.0', 2 * first * 16, noise + condition, bias=False)
  shapes |= norm('h_net1.fc.1', 2 * first * 16)
  for i in range(1, doublings + 1):
    shapes |= conv(f'h_net1.upsample{i}.1', 2 * (first >> i), first >> (i - 1))
    shapes |= norm(f'h_net1.upsample{i}.2', 2 * (first >> i))
  for stage in ('h_net2', 'h_net3'):
    shapes |= read(stage)
    for i in range(residuals):
      block = f'{stage}.residual.{i}.block'
      shapes |= conv(f'{block}.0', 4 * width, 2 * width) | norm(f'{block}.1', 4 * width)
      shapes |= conv(f'{block}.3', 2 * width, 2 * width) | norm(f'{block}.4', 2 * width)
    shapes |= conv(f'{stage}.upsample.1', 2 * width, 2 * width)
    shapes |= norm(f'{stage}.upsample.2', 2 * width)
  for i in (1, 2, 3):
    shapes |= conv(f'img_net{i}.img.0', 3, width)
  return shapes


def attngan(width=4, residuals=2, doublings=1, text=8, noise=5, condition=3):
  def read(stage):
    return layer(f'{stage}.att.conv_context', width, text, 1, 1, bias=False)
  return stacked_generator(width, residuals, doublings, text, noise, condition, read)


def dm_gan(width=4, residuals=2, doublings=1, text=8, noise=5, condition=3):
  def read(stage):
    both = 2 * width
    return (layer(f'{stage}.A', 1, text, bias=False) | layer(f'{stage}.B', 1, width, bias=False)
            | layer(f'{stage}.M_w.0', both, text, 1) | layer(f'{stage}.M_r.0', both, width, 1)
            | layer(f'{stage}.key.0', width, both, 1) | layer(f'{stage}.value.0', width, both, 1)
            | layer(f'{stage}.response_gate.0', 1, both, 1, 1))
  return stacked_generator(width, residuals, doublings, text, noise, condition, read)


def stacked_discriminators(block, side, width, text):
  """The shapes of the three scales; `block(name, number, out, in, kernel)` are those of a block."""
  return [_scale(block, side >> (2 - i), width, text) for i in range(3)]


def _scale(block, side, width, text):
  halvings = (side // 4).bit_length() - 1
  shapes = dict(block('img_code_s16', 0, width, 3, 4))
  for i in range(1, halvings):
    name = 'img_code_s16' if i < 4 else f'img_code_s{2 << i}'
    shapes |= block(name, i if i < 4 else None, width << i, width << (i - 1), 4)
  for j, i in enumerate(range(halvings - 2, 2, -1), 1):
    shapes |= block(f'img_code_s{1 << halvings}_{j}', None, width << i, width << (i + 1), 3)
  last = width << min(halvings - 1, 3)
  shapes |= block('COND_DNET.jointConv', None, last, last + text, 3)
  for which in ('COND_DNET', 'UNCOND_DNET'):
    shapes |= conv(f'{which}.outlogits.0', 1, last, 4, bias=True)
  return shapes


def attngan_discriminators(side=32, width=2, text=8):
  def block(name, number, out, given, kernel):
    first = 3 * number - 1 if number else 0      # a convolution, a normalization, an activation
    return conv(f'{name}.{first}', out, given, kernel) | (
        {} if number == 0 else norm(f'{name}.{first + 1}', out))
  return stacked_discriminators(block, side, width, text)


def dm_gan_discriminators(side=32, width=2, text=8):
  def block(name, number, out, given, kernel):
    at = f'{name}.{2 * (number or 0)}.module'
    return layer(at, out, given, kernel, kernel, weight='weight_bar') | {
        f'{at}.weight_u': (out,), f'{at}.weight_v': (given * kernel ** 2,)}
  return stacked_discriminators(block, side, width, text)


def two_layers(name, out, hidden, given):
  return layer(f'{name}.linear1', hidden, given) | layer(f'{name}.linear2', out, hidden)


def fused(name, features, given):
  """A deep fusion block of DF-GAN and GALIP."""
  return {key: shape for i in (0, 1) for what in ('gamma', 'beta') for key, shape in two_layers(
      f'{name}.affine{i}.fc_{what}', features, features, given).items()}


def fused_up_blocks(width, blocks, given):
  """The generator's blocks of DF-GAN and GALIP, for a condition of `given` features."""
  shapes, before = {}, 8 * width
  for i in range(blocks):
    out, name = min(8, 2 ** (blocks - 1 - i)) * width, f'GBlocks.{i}'
    shapes |= fused(f'{name}.fuse1', before, given) | fused(f'{name}.fuse2', out, given)
    shapes |= conv(f'{name}.c1', out, before, bias=True) | conv(f'{name}.c2', out, out, bias=True)
    shapes |= conv(f'{name}.c_sc', out, before, 1, bias=True) if out != before else {}
    before = out
  return shapes | conv('to_rgb.1', 3, width, bias=True)


def df_gan(width=4, blocks=3, text=8, noise=5):
  """netG of the version of CVPR 2022."""
  return layer('fc', 8 * width * 16, noise) | fused_up_blocks(width, blocks, noise + text)


def df_gan_discriminator(width=4, blocks=3, text=8):
  """netD and netC."""
  shapes, given = conv('conv_img', width, 3, bias=True), width
  for i in range(blocks):
    out, name = min(2 << i, 8) * width, f'DBlocks.{i}'
    shapes |= conv(f'{name}.conv_r.0', out, given, 4) | conv(f'{name}.conv_r.2', out, out)
    shapes |= conv(f'{name}.conv_s', out, given, 1, bias=True) | {f'{name}.gamma': (1,)}
    given = out
  return shapes, (conv('joint_conv.0', 2 * width, given + text)
                  | conv('joint_conv.2', 1, 2 * width, 4))


def df_gan_of_2020(width=4, blocks=4, text=8, noise=5):
  """netG of the first version, which is not read: no noise in the blocks, and gates."""
  shapes, given = layer('fc', 8 * width * 16, noise), 8 * width
  for i, multiple in enumerate((*(8,) * (blocks - 3), 4, 2, 1)):
    out, name = multiple * width, f'block{i}'
    shapes |= {key: shape for number, features in enumerate((given, given, out, out))
               for what in ('gamma', 'beta') for key, shape in two_layers(
                   f'{name}.affine{number}.fc_{what}', features, 256, text).items()}
    shapes |= conv(f'{name}.c1', out, given, bias=True) | conv(f'{name}.c2', out, out, bias=True)
    shapes |= conv(f'{name}.c_sc', out, given, 1, bias=True) if out != given else {}
    shapes |= {f'{name}.gamma': (1,)}
    given = out
  return shapes | conv('conv_img.1', 3, width, bias=True)


def ssa_gan(width=4, blocks=4, text=8, noise=5):
  multiples = (*(8,) * (blocks - 3), 4, 2, 1)
  mask = lambda name, given: (
      conv(f'{name}.0', 100, given, bias=True) | norm(f'{name}.1', 100)
      | conv(f'{name}.3', 1, 100, 1, bias=True))
  shapes = layer('fc', 8 * width * 16, noise) | mask('conv_mask', 8 * width)
  given = 8 * width
  for i, multiple in enumerate(multiples):
    out, name = multiple * width, f'block{i}'
    for number, features in ((0, given), (2, out)):
      affine = f'{name}.affine{number}'
      shapes |= {key: shape for key, shape in norm(f'{affine}.batch_norm2d', features).items()
                 if not key.endswith(('.weight', '.bias'))}
      shapes |= two_layers(f'{affine}.fc_gamma', features, 256, text)
      shapes |= two_layers(f'{affine}.fc_beta', features, 256, text)
    shapes |= conv(f'{name}.c1', out, given, bias=True) | conv(f'{name}.c2', out, out, bias=True)
    shapes |= conv(f'{name}.c_sc', out, given, 1, bias=True) if out != given else {}
    shapes |= {f'{name}.gamma': (1,)}
    shapes |= mask(f'{name}.conv_mask', out) if i + 1 < blocks else {}
    given = out
  return shapes | norm('conv_img.0', width) | conv('conv_img.2', 3, width, bias=True)


def ssa_gan_discriminator(width=4, blocks=3, text=8):
  shapes, given = conv('conv_img', width, 3, bias=True), width
  for i in range(blocks):
    out, name = min(2 << i, 16) * width, f'block{i}'
    shapes |= conv(f'{name}.conv_r.0', out, given, 4) | conv(f'{name}.conv_r.2', out, out)
    shapes |= conv(f'{name}.conv_s', out, given, 1, bias=True) | {f'{name}.gamma': (1,)}
    given = out
  return (shapes | conv('COND_DNET.joint_conv.0', 2 * width, given + text)
          | conv('COND_DNET.joint_conv.2', 1, 2 * width, 4))


def galip(width=2, blocks=2, text=7, noise=5, channels=8, grid=8, prompts=5):
  """netG without its CLIP, of so many `channels`."""
  shapes = layer('fc_code', width * grid ** 2, noise)
  for i in range(4):
    name, half = f'mapping.FBlocks.{i}', width // 2
    for number, out, before in ((1, half, width), (2, width, half)):
      shapes |= conv(f'{name}.conv{number}', out, before, bias=True)
      shapes |= fused(f'{name}.fuse{number}', out, noise + text)
  shapes |= conv('mapping.conv_fuse', channels, width, 5, bias=True)
  shapes |= layer('mapping.fc_prompt', prompts * channels, noise + text)
  shapes |= conv('mapping.conv', 8 * width, channels, 5, bias=True)
  return shapes | fused_up_blocks(width, blocks, noise + text)


def clip_image_transformer(width=8, layers=6, grid=8, patch=4):
  """The part of OpenAI's image transformer that netG holds, below `mapping.CLIP_ViT.`."""
  shapes = {'conv1.weight': (width, 3, patch, patch), 'class_embedding': (width,),
            'positional_embedding': (1 + grid ** 2, width),
            'ln_pre.weight': (width,), 'ln_pre.bias': (width,)}
  for i in range(layers):
    name = f'transformer.resblocks.{i}'
    for which in ('ln_1', 'ln_2'):
      shapes |= {f'{name}.{which}.weight': (width,), f'{name}.{which}.bias': (width,)}
    shapes |= {f'{name}.attn.in_proj_weight': (3 * width, width),
               f'{name}.attn.in_proj_bias': (3 * width,)}
    shapes |= layer(f'{name}.attn.out_proj', width, width)
    shapes |= layer(f'{name}.mlp.c_fc', 4 * width, width)
    shapes |= layer(f'{name}.mlp.c_proj', width, 4 * width)
  return shapes


def galip_discriminator(width=2, text=7, channels=8, grid=8):
  """netD and netC."""
  shapes = {}
  for name, out, gates in (('DBlocks.0', channels, ('gamma', 'beta')),
                           ('DBlocks.1', channels, ('gamma', 'beta')),
                           ('main', 8 * width, ('gamma',))):
    shapes |= conv(f'{name}.conv_r.0', out, channels) | conv(f'{name}.conv_r.2', out, out)
    shapes |= conv(f'{name}.conv_s', out, channels, 1, bias=True)
    shapes |= {f'{name}.{gate}': (1,) for gate in gates}
  return shapes, (conv('joint_conv.0', 2 * width, 8 * width + text, 4)
                  | conv('joint_conv.2', 1, 2 * width, grid - 3))


def damsm_text(vocabulary=10, embedding=6, width=8):
  shapes = {'encoder.weight': (vocabulary, embedding)}
  half = width // 2
  for end in ('', '_reverse'):
    shapes |= {f'rnn.weight_ih_l0{end}': (4 * half, embedding),
               f'rnn.weight_hh_l0{end}': (4 * half, half),
               f'rnn.bias_ih_l0{end}': (4 * half,), f'rnn.bias_hh_l0{end}': (4 * half,)}
  return shapes


def damsm_image(width=8):
  """A whole Inception-v3 without classifiers, and two projections."""
  shapes = layer('emb_cnn_code', width, 2048) | conv('emb_features', width, 768, 1)
  spec = variables_spec(inception.Inception('torchvision'), inception.SIDE)['params']
  for path, leaf in traverse_util.flatten_dict(spec).items():
    *module, last = path
    if last == 'kernel' and module != ['fc']:
      h, w, given, out = leaf.shape
      name = '.'.join(module)
      shapes |= {f'{name}.conv.weight': (out, given, h, w)} | norm(f'{name}.bn', out)
  return shapes
