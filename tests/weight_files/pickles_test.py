"""The reader of pickled arrays: right about arrays, deaf to everything else."""
import collections
import datetime
import os
import pickle

import numpy as np
import pytest

from xmc_jax.types import UserError
from xmc_jax.weight_files import pickles


@pytest.mark.parametrize('protocol', [3, 4])
def test_arrays_and_plain_containers_come_back(tmp_path, protocol):
  tree = {
    'a': {'kernel': np.arange(24, dtype=np.float32).reshape(2, 3, 4)},
    'list': [np.array([True, False]), (1, 2.5, 'x', None)],
    'fortran': np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    'swapped': np.arange(3, dtype='>f8'),
    'nothing': np.zeros((0, 4), np.uint8)}
  path = tmp_path / 'x.pkl'
  path.write_bytes(pickle.dumps(tree, protocol=protocol))
  back = pickles.read_arrays(path)
  np.testing.assert_array_equal(back['a']['kernel'], tree['a']['kernel'])
  np.testing.assert_array_equal(back['list'][0], [True, False])
  np.testing.assert_array_equal(back['fortran'], tree['fortran'])
  np.testing.assert_array_equal(back['swapped'], [0, 1, 2])
  assert back['list'][1] == (1, 2.5, 'x', None)
  assert back['nothing'].shape == (0, 4) and back['nothing'].dtype == np.uint8


def test_arrays_are_named_by_the_way_to_them(tmp_path):
  path = tmp_path / 'x.pkl'
  path.write_bytes(pickle.dumps({'conv1': [np.ones(2), np.zeros(3)], 'fc': {'bias': np.ones(1)}}))
  assert {name: x.shape for name, x in pickles.read(path).items()} == {
    'conv1/0': (2,), 'conv1/1': (3,), 'fc/bias': (1,)}
  path.write_bytes(pickle.dumps({'conv1': [np.ones(2), 'text']}))
  with pytest.raises(UserError, match="conv1/1 is 'text', not an array"):
    pickles.read(path)


class _Runs:

  def __init__(self, call, *arguments):
    self.reduced = call, arguments

  def __reduce__(self):
    return self.reduced


@pytest.mark.parametrize('call', [os.system, eval, os.mkdir, getattr])
def test_a_pickle_that_calls_something_is_refused_before_the_call(tmp_path, call):
  made = tmp_path / 'made'
  arguments = {
    os.system: (f'mkdir {made}',), eval: (f"__import__('os').mkdir({str(made)!r})",),
    os.mkdir: (str(made),), getattr: (1, 'real')}[call]
  path = tmp_path / 'x.pkl'
  path.write_bytes(pickle.dumps({'kernel': _Runs(call, *arguments)}))
  with pytest.raises(UserError, match='only numpy arrays are allowed'):
    pickles.read_arrays(path)
  assert not made.exists()


@pytest.mark.parametrize('value', [
  collections.OrderedDict(a=1), datetime.date(2020, 1, 1), np.float32(1),
  np.array([{'a': 1}], dtype=object), np.dtype('f4'), np.ndarray])
def test_anything_but_numeric_arrays_is_refused(tmp_path, value):
  path = tmp_path / 'x.pkl'
  path.write_bytes(pickle.dumps([value], protocol=2))
  with pytest.raises(UserError, match='cannot be read'):
    pickles.read_arrays(path)


def test_a_pickle_cannot_change_what_stands_for_a_class(tmp_path):
  path = tmp_path / 'x.pkl'
  path.write_bytes(b'\x80\x02cnumpy\nndarray\n(N}X\x01\x00\x00\x00aK\x01st\x86b.')
  with pytest.raises(UserError, match='cannot be read'):
    pickles.read_arrays(path)
  path.write_bytes(b'\x80\x02]X\x01\x00\x00\x00aQ.')
  with pytest.raises(UserError, match='outside the file'):
    pickles.read_arrays(path)


def test_damaged_and_missing_files_are_refused(tmp_path):
  path = tmp_path / 'x.pkl'
  path.write_bytes(pickle.dumps(np.ones(100))[:-30])
  for where in (path, tmp_path / 'absent.pkl'):
    with pytest.raises(UserError, match=where.name):
      pickles.read_arrays(where)
