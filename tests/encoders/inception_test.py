"""Inception-v3: its features are those of torch-fidelity, torchvision and Keras on random weights.

Their features are stored (tools/inception_goldens.py). Where the packages themselves are installed
they are asked again.
"""
import functools

import jax
import numpy as np
import pytest
import tiny

from xmc_jax.encoders import inception, inception_layers
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow

tool = tiny.script('tools/inception_goldens.py')
IMAGES = tool.images(2, 299)
X = (IMAGES.astype(np.float32) - 128) / 128
state_dict = functools.cache(tool.state_dict)


@functools.cache
def variables(variant):
  if variant == 'keras':
    return inception.from_keras(tool.keras_arrays(state_dict(1000)))
  return inception.from_torch(state_dict(inception.VARIANTS[variant].classes), variant)


@functools.cache
def features(variant):
  return jax.jit(inception.Inception(variant).apply)(variables(variant), X)


@functools.cache
def goldens():
  with np.load(tool.FEATURES, allow_pickle=False) as file:
    return dict(file)


def difference(ours, theirs):
  """Relative, of the row that differs most."""
  assert ours.shape == theirs.shape and ours.dtype == theirs.dtype == np.float32
  return (np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)).max()


@pytest.mark.parametrize('variant', inception.VARIANTS)
def test_features_are_those_stored_of_the_reference(variant):
  found = features(variant)
  assert difference(found.pool, goldens()[f'{variant}/pool']) < 1e-6
  assert difference(found.logits, goldens()[f'{variant}/logits']) < 2e-6


def test_the_variants_are_different_networks():
  assert difference(features('keras').pool, features('torchvision').pool) > 1e-2
  assert difference(goldens()['tf2015/pool'], goldens()['keras/pool']) > 1e-2


@pytest.mark.parametrize('variant', ['torchvision', 'keras'])
def test_features_are_those_of_the_package(variant):
  if variant == 'keras':
    pytest.importorskip('torch')  # Keras' compilation takes longer than ordinary tests may
  package, arrays = pytest.importorskip(variant), state_dict(1000)
  assert package
  arrays = tool.keras_arrays(arrays) if variant == 'keras' else arrays
  pool, logits = getattr(tool, variant)(arrays, X)
  assert difference(features(variant).pool, pool) < 1e-6
  assert difference(features(variant).logits, logits) < 2e-6


def test_tf2015_is_torch_fidelitys():
  pytest.importorskip('torch_fidelity')
  pool, logits = tool.torch_fidelity(state_dict(1008), IMAGES)
  assert difference(features('tf2015').pool, pool) < 1e-6
  assert difference(features('tf2015').logits, logits) < 2e-6


def test_tf2015_is_pytorch_fids():
  pytest.importorskip('pytorch_fid')
  pool = tool.pytorch_fid(state_dict(1008), IMAGES)
  ours = jax.jit(inception.Inception('tf2015').apply)(
    variables('tf2015'), 2 * (IMAGES / np.float32(255)) - 1)
  assert difference(ours.pool, pool) < 1e-6


# Some names of the frozen graph of 2015 as others list them.
GRAPH = {
  'conv': 'Conv2d_1a_3x3', 'conv_4': 'Conv2d_4a_3x3', 'mixed/conv': 'Mixed_5b.branch1x1',
  'mixed_1/tower/conv_1': 'Mixed_5c.branch5x5_2', 'mixed_2/tower_2/conv': 'Mixed_5d.branch_pool',
  'mixed_2/tower_1/conv_2': 'Mixed_5d.branch3x3dbl_3', 'mixed_3/conv': 'Mixed_6a.branch3x3',
  'mixed_3/tower/conv_2': 'Mixed_6a.branch3x3dbl_3', 'mixed_5/tower/conv_2': 'Mixed_6c.branch7x7_3',
  'mixed_7/tower_1/conv_4': 'Mixed_6e.branch7x7dbl_5', 'mixed_8/tower/conv': 'Mixed_7a.branch3x3_1',
  'mixed_8/tower_1/conv_3': 'Mixed_7a.branch7x7x3_4', 'mixed_9/tower/conv': 'Mixed_7b.branch3x3_1',
  'mixed_9/tower/mixed/conv': 'Mixed_7b.branch3x3_2a',
  'mixed_9/tower/mixed/conv_1': 'Mixed_7b.branch3x3_2b',
  'mixed_10/tower_1/conv_1': 'Mixed_7c.branch3x3dbl_2',
  'mixed_10/tower_1/mixed/conv_1': 'Mixed_7c.branch3x3dbl_3b',
  'mixed_10/tower_2/conv': 'Mixed_7c.branch_pool'}


def graph_arrays(arrays):
  found = {'softmax/weights': arrays['fc.weight'].T, 'softmax/biases': arrays['fc.bias']}
  norm = {'bn.weight': 'gamma', 'bn.bias': 'beta', 'bn.running_mean': 'moving_mean',
          'bn.running_var': 'moving_variance'}
  for path, scope in inception_layers.layers():
    name = '.'.join(path)
    found[f'{scope}/conv2d_params'] = arrays[f'{name}.conv.weight'].transpose(2, 3, 1, 0)
    found |= {f'{scope}/batchnorm/{ours}': arrays[f'{name}.{leaf}'] for leaf, ours in norm.items()}
  return found


def test_the_graph_of_2015_gives_the_same_variables():
  scopes = {scope: '.'.join(path) for path, scope in inception_layers.layers()}
  assert len(scopes) == 94 and GRAPH.items() <= scopes.items()
  found = inception.from_graph(graph_arrays(state_dict(1008)))
  jax.tree.map(np.testing.assert_array_equal, found, variables('tf2015'))


def test_keras_may_count_from_anywhere_and_group():
  arrays = tool.keras_arrays(state_dict(1000))

  def renamed(name):
    layer, leaf = name.split('/')
    kind, _, number = layer.rpartition('_') if layer[-1].isdigit() else (layer, '', '0')
    new = layer if layer == 'predictions' else f'{kind}_{int(number) + 95}'
    return f'{new}/{new}/{leaf}:0'

  arrays = dict(reversed([(renamed(name), array) for name, array in arrays.items()]))
  assert 'conv2d_95/conv2d_95/kernel:0' in arrays
  found = inception.from_keras(arrays)
  jax.tree.map(np.testing.assert_array_equal, found, variables('keras'))


def test_a_missing_layer_is_named():
  arrays = dict(state_dict(1008))
  del arrays['Mixed_6c.branch7x7_2.bn.running_var']
  with pytest.raises(UserError, match='no tensor Mixed_6c.branch7x7_2.bn.running_var'):
    inception.from_torch(arrays, 'tf2015')
  arrays = tool.keras_arrays(state_dict(1000))
  del arrays['conv2d_7/kernel']
  with pytest.raises(UserError, match='93 conv2d layers instead of 94'):
    inception.from_keras(arrays)


def test_another_variants_classes_are_refused():
  with pytest.raises(UserError, match='fc.* has the shape'):
    inception.from_torch(state_dict(1008), 'torchvision')
