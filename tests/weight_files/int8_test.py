"""Weights in fewer bits: how far they move, and what stays as it is."""
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from xmc_jax.types import UserError
from xmc_jax.weight_files import files, int8


def matrix(*shape):
  """Rows of different sizes, one of them zero."""
  x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  x[0], x[1] = 0, x[1] * 1000
  return x


@pytest.mark.parametrize('outputs, shape', [(0, (4, 50)), (-1, (50, 4)), (-1, (3, 3, 5, 4))])
def test_a_weight_moves_by_half_a_step_of_its_output_at_most(outputs, shape):
  x = matrix(4, int(np.prod(shape)) // 4)
  x = x.reshape(shape) if outputs == 0 else x.T.reshape(shape)
  packed = int8.pack({'a': x}, 'int8', outputs)
  assert packed['a'].dtype == np.int8
  assert sum(array.nbytes for array in packed.values()) == x.size + 4 * 4
  found = int8.unpack(packed)
  assert found.keys() == {'a'} and found['a'].dtype == np.float32
  others = tuple(axis for axis in range(x.ndim) if axis != outputs % x.ndim)
  step = np.abs(x).max(others, keepdims=True) / 127
  assert (np.abs(found['a'] - x) <= 0.501 * step).all()


def test_vectors_stay_in_half_precision_and_numbers_that_count_as_they_are():
  packed = int8.pack({'bias': np.float32([1.5, 2]), 'ids': np.arange(3)}, 'int8', 0)
  assert {name: x.dtype.name for name, x in packed.items()} == {'bias': 'float16', 'ids': 'int64'}


def test_half_precision_refuses_what_it_cannot_hold():
  with np.errstate(over='ignore'), pytest.raises(UserError, match='layer.*float32'):
    int8.pack({'layer': np.float32([[1e6]])}, 'float16', 0)
  assert int8.pack({'layer': np.float32([[1e6]])}, 'float32', 0)['layer'] == 1e6


def test_every_reader_of_safetensors_sees_floats(tmp_path):
  x = matrix(4, 50)
  safetensors_numpy.save_file(int8.pack({'a': x}, 'int8', 0), tmp_path / 'x.safetensors')
  found = files.read_safetensors(tmp_path / 'x.safetensors')
  assert found.keys() == {'a'} and np.abs(found['a'] - x).max() <= 0.501 * np.abs(x).max() / 127


@pytest.mark.parametrize('dtype', int8.DTYPES)
def test_values_that_are_not_finite_are_named(dtype):
  with pytest.raises(UserError, match='weights layer have values that are not finite'):
    int8.pack({'layer': np.float32([[1, np.nan]])}, dtype, 0)


@pytest.mark.parametrize('dtype', int8.DTYPES)
def test_bfloat16_is_a_kind_of_float(dtype):
  x = matrix(4, 50).astype(ml_dtypes.bfloat16)
  packed = int8.pack({'a': x}, dtype, 0)
  assert packed['a'].dtype == dtype
  np.testing.assert_allclose(int8.unpack(packed)['a'], x.astype(np.float32), atol=15)
