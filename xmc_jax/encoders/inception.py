"""Inception-v3 in the three variants that are used for evaluation in the literature.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (arXiv 1512.00567). The
variants have the same layers (`inception_layers`) and differ in pooling, classes and weights:

  tf2015       the graph inception-2015-12-05, used for FID and the Inception Score
  torchvision  `inception_v3` of torchvision, trained on ImageNet
  keras        InceptionV3 of Keras, trained on ImageNet

  module, variables = Inception('tf2015'), from_torch(arrays, 'tf2015')
  features = jax.jit(module.apply)(variables, x)

BatchNorm is folded into the kernels when weights are loaded, so the network only has kernels and
biases. Pool features differ from torch-fidelity's by less than 1e-6 (relative L2, CPU).
"""
from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax import lax

from xmc_jax.encoders import inception_layers as table
from xmc_jax.encoders.features import Features, variables_spec
from xmc_jax.types import Array, Tree, UserError
from xmc_jax.weight_files import convert
from xmc_jax.weight_files.convert import Path

SIDE = 299  # pixels per side in training
EPSILON = 1e-3  # of every BatchNorm, in all variants


def _max_pool(x: Array) -> Array:
  return _pool(_padded(x, -jnp.inf), jnp.maximum)


def _mean_pool(x: Array) -> Array:
  """Padding is excluded: a corner is the mean of 4 values."""
  rows, columns = (np.where(np.isin(np.arange(size), (0, size - 1)), 2, 3) for size in x.shape[1:3])
  return _pool(_padded(x, 0), jnp.add) / jnp.float32(rows[:, None] * columns)[None, ..., None]


def _mean_pool_padded(x: Array) -> Array:
  """Padding counts as zeros: a corner is the sum of 4 values divided by 9."""
  return _pool(_padded(x, 0), jnp.add) / 9


def _padded(x: Array, value: float) -> Array:
  return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=value)


def _pool(x: Array, reduce: Callable[[Array, Array], Array], stride: int = 1) -> Array:
  """Reduces 3 x 3 windows. On CPUs, shifted slices take half the time of XLA's windows."""
  for axis in (1, 2):
    starts = x.shape[axis] - 2
    first, second, third = (
      lax.slice_in_dim(x, shift, shift + starts, stride, axis) for shift in range(3))
    x = reduce(reduce(first, second), third)
  return x


@dataclasses.dataclass(frozen=True)
class Variant:
  """How the variants of the network differ."""
  classes: int
  around: Callable[[Array], Array]  # pooling in the branches
  last: Callable[[Array], Array]    # pooling in the last block
  logit_bias: bool                  # without it in tf2015, as for the Inception Score
  scale: bool                       # of BatchNorm
  # Evaluation needs float32 sums on every machine; losses do not.
  precision: lax.Precision | None = lax.Precision.HIGHEST


VARIANTS = {
  'tf2015': Variant(1008, _mean_pool, _max_pool, logit_bias=False, scale=True),
  'torchvision': Variant(1000, _mean_pool_padded, _mean_pool_padded, logit_bias=True, scale=True),
  'keras': Variant(1000, _mean_pool, _mean_pool, logit_bias=True, scale=False)}


class Inception(nn.Module):
  """Inception-v3 in one of `VARIANTS`."""
  variant: str = 'tf2015'

  @nn.compact
  def __call__(self, x: Array) -> Features:
    """x float32 [b, 299, 299, 3], RGB, resized and normalized as the weights need it.

    The pool is [b, 2048], the logits [b, 1008] for 'tf2015', else [b, 1000]. Products are float32
    on TPUs too; their default of bfloat16 changes features by 4e-3.
    """
    variant = VARIANTS[self.variant]
    pool = _blocks(variant, x)['Mixed_7c'].mean((1, 2))
    head = nn.Dense(variant.classes, variant.logit_bias, precision=variant.precision, name='fc')
    return Features(pool, head(pool))


class InceptionBackbone(nn.Module):
  """The convolutions of 'torchvision' for losses: a map and the pool, in default precision."""

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Array]:
    """x as for `Inception`, to the output of Mixed_6e [b, 17, 17, 768] and the pool [b, 2048]."""
    outputs = _blocks(dataclasses.replace(VARIANTS['torchvision'], precision=None), x)
    return outputs['Mixed_6e'], outputs['Mixed_7c'].mean((1, 2))


def _blocks(variant: Variant, x: Array) -> dict[str, Array]:
  """The outputs of the blocks by name; for use inside a compact method."""
  x, outputs = _branch(table.STEM, variant, x), {}
  for name, branches in table.BLOCKS.items():
    outputs[name] = x = _Block(branches, variant, name=name)(x)
  return outputs


class _Block(nn.Module):
  """Branches applied to the same input and concatenated."""
  branches: tuple[table.BranchSpec, ...]
  variant: Variant

  @nn.compact
  def __call__(self, x: Array) -> Array:
    return jnp.concatenate([_branch(steps, self.variant, x) for steps in self.branches], -1)


def _branch(steps: table.BranchSpec, variant: Variant, x: Array) -> Array:
  """A chain of steps; for use inside a compact method."""
  pools = {table.HALVE: lambda x: _pool(x, jnp.maximum, 2), table.AROUND: variant.around,
           table.LAST: variant.last}
  for step in steps:
    if isinstance(step, str):
      x = pools[step](x)
    elif isinstance(step, table.ConvSpec):
      x = _conv(step, variant, x)
    else:
      x = jnp.concatenate([_conv(conv, variant, x) for conv in step], -1)
  return x


def _conv(conv: table.ConvSpec, variant: Variant, x: Array) -> Array:
  padding, rows = conv.padding, None
  if padding == 'VALID':
    # XLA's convolutions on CPUs are three to five times faster with any padding than without, and
    # the whole network 1.6 times. So a row is padded at the bottom, and its output is cut off.
    padding, rows = ((0, 1), (0, 0)), (x.shape[1] - conv.kernel[0]) // conv.stride + 1
  strides = (conv.stride, conv.stride)
  x = nn.Conv(conv.width, conv.kernel, strides, padding, precision=variant.precision,
              name=conv.name)(x)
  return nn.relu(x[:, :rows])


def from_torch(arrays: Mapping[str, np.ndarray], variant: str) -> Tree:
  """Variables of 'tf2015' from a state dict of pytorch-fid or torch-fidelity, or of 'torchvision'.

  All use the same names. The auxiliary head (AuxLogits) is ignored.

  Raises UserError if an array is missing or has another shape. The message does not name the file.
  """
  leaves = {'kernel': 'conv.weight', 'scale': 'bn.weight', 'bias': 'bn.bias',
            'mean': 'bn.running_mean', 'variance': 'bn.running_var'}
  names = {(*path, leaf): '.'.join((*path, name))
           for path, _ in table.layers() for leaf, name in leaves.items()}
  names |= {('fc', 'kernel'): 'fc.weight', ('fc', 'bias'): 'fc.bias'}
  return _fold(_fill(arrays, names, variant, 'torch'))


def from_graph(arrays: Mapping[str, np.ndarray]) -> Tree:
  """Variables of 'tf2015' from the constants of TensorFlow's frozen graph of 2015-12-05.

  An example of their names is `mixed_3/tower/conv/conv2d_params`. Errors as by `from_torch`.
  """
  leaves = {'kernel': 'conv2d_params', 'scale': 'batchnorm/gamma', 'bias': 'batchnorm/beta',
            'mean': 'batchnorm/moving_mean', 'variance': 'batchnorm/moving_variance'}
  names = {(*path, leaf): f'{scope}/{name}'
           for path, scope in table.layers() for leaf, name in leaves.items()}
  return _fold(_fill(arrays, names | {('fc', 'kernel'): 'softmax/weights'}, 'tf2015', 'jax'))


def from_keras(arrays: Mapping[str, np.ndarray]) -> Tree:
  """Variables of 'keras' from arrays such as `conv2d_17/kernel`.

  Groups before and `:0` after such names, as in Keras' h5 files, are ignored. Keras numbers layers
  in the order of creation and continues with the next network of a process, so only the order of
  the numbers is used. Keras 3's `.weights.h5` has another order and is refused.

  Raises UserError as `from_torch` does, or if the number of layers is wrong.
  """
  arrays = {'/'.join(name.removesuffix(':0').split('/')[-2:]): x for name, x in arrays.items()}
  names = {('fc', 'kernel'): 'predictions/kernel', ('fc', 'bias'): 'predictions/bias'}
  paths = [path for path, _ in table.layers()]
  kinds = {'conv2d': {'kernel': 'kernel'},
           'batch_normalization': {'bias': 'beta', 'mean': 'moving_mean',
                                   'variance': 'moving_variance'}}
  for kind, leaves in kinds.items():
    found = {name.split('/')[0] for name in arrays if re.fullmatch(rf'{kind}(_\d+)?/.*', name)}
    if len(found) != len(paths):
      raise UserError(f'it has {len(found)} {kind} layers instead of {len(paths)}')
    ordered = sorted(found, key=lambda layer: int('0' + layer[len(kind) + 1:]))
    names |= {(*path, leaf): f'{layer}/{name}'
              for path, layer in zip(paths, ordered) for leaf, name in leaves.items()}
  return _fold(_fill(arrays, names, 'keras', 'jax'))


def _fill(arrays: Mapping[str, np.ndarray], names: Mapping[Path, str], variant: str, layout: str
          ) -> Tree:
  """Kernels and BatchNorms of a file; `names` maps paths to names in the file."""
  wanted = traverse_util.flatten_dict(variables_spec(Inception(variant), SIDE)['params'])
  norm = {'mean', 'variance'} | ({'scale'} if VARIANTS[variant].scale else set())
  for path, _ in table.layers():
    wanted |= {(*path, leaf): wanted[*path, 'bias'] for leaf in norm}
  return convert.fill(traverse_util.unflatten_dict(wanted), arrays, lambda path: [names[path]],
                      layout=layout)


def _fold(params: Tree) -> Tree:
  """Variables with every BatchNorm folded into the kernel before it, in float64."""
  params = traverse_util.flatten_dict(params)
  for path, _ in table.layers():
    leaf = lambda name: np.asarray(params.pop((*path, name), 1), np.float64)
    kernel, bias, mean = leaf('kernel'), leaf('bias'), leaf('mean')
    factor = leaf('scale') / np.sqrt(leaf('variance') + EPSILON)
    params[*path, 'kernel'] = jnp.asarray(kernel * factor, jnp.float32)
    params[*path, 'bias'] = jnp.asarray(bias - mean * factor, jnp.float32)
  return {'params': traverse_util.unflatten_dict(params)}
