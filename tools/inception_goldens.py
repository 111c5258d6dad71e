"""Writes reference outputs of torch-fidelity, torchvision, Keras and others for the tests.

  pip install torch torchvision torch-fidelity pytorch-fid clean-fid keras tensorflow-cpu
  python tools/inception_goldens.py

No trained weights are needed: networks are the same if they agree on random weights. These come
from a seed, so the tests can create them again and only features are stored. The tests also use the
functions in this file, so packages other than numpy are imported only where they are needed.
"""
from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Mapping
from unittest import mock

import numpy as np

from xmc_jax.encoders import inception_layers

TESTS = pathlib.Path(__file__).parents[1] / 'tests'
FEATURES = TESTS / 'encoders' / 'goldens' / 'inception.npz'
RESIZES = TESTS / 'evals' / 'goldens' / 'resize.npz'
SIZES = (8, 64, 256, 300)
STEP = 31  # every 31st pixel of a resized image is stored, along both axes
Arrays = Mapping[str, np.ndarray]


def images(number: int, side: int, seed: int = 0) -> np.ndarray:
  """uint8 [number, side, side, 3]: colored squares with noise, computed in integers."""
  random = np.random.RandomState(seed)
  squares = random.randint(0, 256, (number, 8, 8, 3)).repeat(-(-side // 8), 1)
  squares = squares.repeat(-(-side // 8), 2)[:, :side, :side]
  return ((3 * squares + random.randint(0, 256, squares.shape)) // 4).astype(np.uint8)


def state_dict(classes: int, seed: int = 0) -> dict[str, np.ndarray]:
  """Random kernels (He initialization) and BatchNorms under torch's names, float32.

  They come from `RandomState`, whose sequence numpy never changes.
  """
  random, arrays = np.random.RandomState(seed), {}
  for path, shape in kernels():
    name = '.'.join(path)
    kernel = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    arrays[f'{name}.conv.weight'] = kernel
    arrays[f'{name}.bn.weight'] = random.uniform(0.5, 1.5, shape[0])
    arrays[f'{name}.bn.bias'] = random.standard_normal(shape[0]) / 8
    arrays[f'{name}.bn.running_mean'] = random.standard_normal(shape[0]) / 8
    arrays[f'{name}.bn.running_var'] = random.uniform(0.5, 1.5, shape[0])
  arrays['fc.weight'] = random.standard_normal((classes, 2048)) / 64
  arrays['fc.bias'] = random.standard_normal(classes)
  return {name: array.astype(np.float32) for name, array in arrays.items()}


def kernels():
  """For every convolution, its path and the shape of its kernel in torch."""
  convs, channels = {}, 3
  for step in inception_layers.STEM:
    if isinstance(step, inception_layers.ConvSpec):
      convs[step.name,], channels = (step.width, channels, *step.kernel), step.width
  for block, branches in inception_layers.BLOCKS.items():
    after = 0
    for steps in branches:
      width = channels
      for step in steps:
        if not isinstance(step, str):
          fork = (step,) if isinstance(step, inception_layers.ConvSpec) else step
          convs |= {(block, conv.name): (conv.width, width, *conv.kernel) for conv in fork}
          width = sum(conv.width for conv in fork)
      after += width
    channels = after
  return convs.items()


def keras_arrays(arrays: Arrays) -> dict[str, np.ndarray]:
  """The same weights under Keras' names, without the scale of BatchNorm."""
  named = {'predictions/kernel': arrays['fc.weight'].T, 'predictions/bias': arrays['fc.bias']}
  for number, (path, _) in enumerate(kernels()):
    name, suffix = '.'.join(path), f'_{number}' if number else ''
    norm = f'batch_normalization{suffix}'
    named[f'conv2d{suffix}/kernel'] = arrays[f'{name}.conv.weight'].transpose(2, 3, 1, 0)
    named[f'{norm}/beta'] = arrays[f'{name}.bn.bias']
    named[f'{norm}/moving_mean'] = arrays[f'{name}.bn.running_mean']
    named[f'{norm}/moving_variance'] = arrays[f'{name}.bn.running_var']
  return named


def torch_fidelity_net(arrays: Arrays, features: list[str]):
  """torch-fidelity's extractor with these weights instead of a download."""
  from torch_fidelity import feature_extractor_inceptionv3 as module
  weights = _tensors(arrays)
  with mock.patch.object(module, 'load_state_dict_from_url', lambda *_, **__: weights):
    return module.FeatureExtractorInceptionV3('inception', features)


def torch_fidelity(arrays: Arrays, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Pool and logits of uint8 images of any size."""
  import torch
  net = torch_fidelity_net(arrays, ['2048', 'logits_unbiased'])
  with torch.no_grad():
    pool, logits = net(torch.from_numpy(channels_first(images)))
  return pool.numpy(), logits.numpy()


def pytorch_fid(arrays: Arrays, images: np.ndarray) -> np.ndarray:
  """Pool of uint8 images of any size, resize and range included."""
  import torch
  from pytorch_fid import inception as module
  with mock.patch.object(module, 'load_state_dict_from_url', lambda *_, **__: _tensors(arrays)):
    net = module.InceptionV3().eval()
  with torch.no_grad():
    return net(torch.from_numpy(channels_first(images)) / 255)[0][:, :, 0, 0].numpy()


def torchvision(arrays: Arrays, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Pool and logits of normalized x [b, 299, 299, 3]."""
  import torch
  from torchvision.models import inception_v3
  net = inception_v3(weights=None, init_weights=False, aux_logits=False).eval()
  net.load_state_dict(_tensors(arrays))
  pools = []
  net.avgpool.register_forward_hook(lambda *args: pools.append(args[-1].flatten(1).numpy()))
  with torch.no_grad():
    logits = net(torch.from_numpy(channels_first(x))).numpy()
  return pools[0], logits


def keras(arrays: Arrays, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Pool and logits of normalized x [b, 299, 299, 3]."""
  import keras
  keras.backend.clear_session()  # resets the numbers of layers
  net = keras.applications.InceptionV3(weights=None, classifier_activation=None)
  for variable in net.variables:
    variable.assign(arrays[variable.path])
  both = keras.Model(net.input, [net.get_layer('avg_pool').output, net.output])
  return tuple(both.predict(x, verbose=0))


def resized(side: int) -> dict[str, np.ndarray]:
  """Two uint8 images resized by the reference libraries; float32 in [0, 255]."""
  import torch
  from cleanfid.resize import make_resizer
  from PIL import Image
  from torch_fidelity.interpolate_compat_tensorflow import (
    interpolate_bilinear_2d_like_tensorflow1x as like_tensorflow,
  )
  from torchvision import transforms
  uint8, size = images(2, side), (299, 299)
  x = torch.from_numpy(channels_first(uint8)).float()
  last = lambda x: np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1))
  clean = make_resizer('PIL', False, 'bicubic', size)
  files = [transforms.Resize(size)(Image.fromarray(image)) for image in uint8]
  return {
    'tf1_bilinear': last(like_tensorflow(x, size=size, align_corners=False)),
    'half_pixel_bilinear': last(torch.nn.functional.interpolate(x, size=size, mode='bilinear')),
    'antialiased_bilinear': last(transforms.Resize(size)(x)),
    'pil_bicubic': np.stack([clean(image) for image in uint8]),
    'pil_bilinear': np.array(files, np.float32)}


def digest(array: np.ndarray) -> np.ndarray:
  """SHA-256 of the bytes of a float32 array."""
  data = np.ascontiguousarray(array, '<f4').tobytes()
  return np.frombuffer(hashlib.sha256(data).digest(), np.uint8)


def channels_first(images: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _tensors(arrays: Arrays):
  import torch
  counters = {name.replace('running_var', 'num_batches_tracked'): torch.tensor(0)
              for name in arrays if name.endswith('running_var')}
  return {name: torch.from_numpy(array) for name, array in arrays.items()} | counters


def main() -> None:
  uint8 = images(2, 299)
  x = (uint8.astype(np.float32) - 128) / 128
  large, small = state_dict(1008), state_dict(1000)
  found = {'tf2015': torch_fidelity(large, uint8), 'torchvision': torchvision(small, x),
           'keras': keras(keras_arrays(small), x)}
  FEATURES.parent.mkdir(exist_ok=True)
  np.savez_compressed(FEATURES, **{f'{variant}/{kind}': values for variant, both in found.items()
                                   for kind, values in zip(('pool', 'logits'), both)})
  goldens = {}
  for side in SIZES:
    for name, values in resized(side).items():
      goldens[f'{name}/{side}/some'] = values[:, ::STEP, ::STEP]
      goldens[f'{name}/{side}/sha256'] = digest(values)
  RESIZES.parent.mkdir(exist_ok=True)
  np.savez_compressed(RESIZES, **goldens)


if __name__ == '__main__':
  main()
