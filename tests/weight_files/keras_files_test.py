"""The reader of Keras' files, against files that Keras writes and one in the way of Keras 2."""
import h5py
import numpy as np
import pytest

from xmc_jax.types import UserError
from xmc_jax.weight_files import keras_files


@pytest.fixture(name='model', scope='module')
def _model():
  keras = pytest.importorskip('keras')
  image = keras.Input((8, 8, 3))
  x = keras.layers.Conv2D(4, 3, use_bias=False)(image)
  x = keras.layers.BatchNormalization(scale=False)(x)
  x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 1)(x))
  model = keras.Model(image, keras.layers.Dense(5, name='predictions')(x))
  rng = np.random.default_rng(0)
  model.set_weights([rng.normal(size=w.shape) for w in model.weights])
  return model


def test_the_older_layout_gives_keras_own_names(tmp_path, model):
  model.save(tmp_path / 'x.h5')
  arrays = keras_files.read(tmp_path / 'x.h5')
  assert list(arrays) == [w.path for w in model.weights]
  for weight, value in zip(model.weights, arrays.values(), strict=True):
    np.testing.assert_array_equal(value, weight.numpy())


def test_the_layout_of_keras_3_numbers_the_weights_of_a_layer(tmp_path, model):
  model.save_weights(tmp_path / 'x.weights.h5')
  arrays = keras_files.read(tmp_path / 'x.weights.h5')
  names = ['conv2d/0', 'batch_normalization/0', 'batch_normalization/1', 'batch_normalization/2',
           'conv2d_1/0', 'conv2d_1/1', 'dense/0', 'dense/1']
  assert arrays.keys() == set(names)
  for name, weight in zip(names, model.weights, strict=True):
    np.testing.assert_array_equal(arrays[name], weight.numpy())


def write(path, layers):
  """As Keras 2 did: names as bytes, a group a layer, `:0` behind a weight."""
  with h5py.File(path, 'w') as file:
    file.attrs['layer_names'] = np.bytes_(list(layers))
    for layer, weights in layers.items():
      group = file.create_group(layer)
      group.attrs['weight_names'] = np.bytes_(list(weights))
      for name, value in weights.items():
        group[name] = value


def test_files_of_keras_2_are_read(tmp_path):
  kernel, beta = np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.float32([1, 2])
  write(tmp_path / 'x.h5', {
    'conv2d_1': {'conv2d_1/kernel:0': kernel}, 'pool': {}, 'batch_normalization_1': {
      'batch_normalization_1/beta:0': beta}})
  arrays = keras_files.read(tmp_path / 'x.h5')
  assert list(arrays) == ['conv2d_1/kernel', 'batch_normalization_1/beta']
  np.testing.assert_array_equal(arrays['conv2d_1/kernel'], kernel)
  np.testing.assert_array_equal(arrays['batch_normalization_1/beta'], beta)


def test_missing_damaged_and_other_files_are_refused(tmp_path):
  path = tmp_path / 'x.h5'
  with pytest.raises(UserError, match=r'x\.h5 cannot be read: there is no such file'):
    keras_files.read(path)
  write(path, {'dense': {'dense/kernel:0': np.ones((300, 300))}})
  data = path.read_bytes()
  path.write_bytes(data[:len(data) // 2])
  with pytest.raises(UserError, match=r'x\.h5 cannot be read'):
    keras_files.read(path)
  write(path, {'dense': {'dense/kernel:0': b'text'}})
  with pytest.raises(UserError, match='not numbers'):
    keras_files.read(path)
  with h5py.File(path, 'w') as file:
    file['a'] = [1, 2]
  with pytest.raises(UserError, match='not a Keras weight file'):
    keras_files.read(path)
  with h5py.File(path, 'w') as file:
    file.attrs['layer_names'] = np.bytes_(['dense'])
  with pytest.raises(UserError, match='dense'):
    keras_files.read(path)
