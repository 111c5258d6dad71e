"""One axis of devices, rows spread over it, and a batch that they do not divide."""
import jax
import numpy as np
import pytest

from xmc_jax.training.mesh import by_row, check_rows, make_mesh, put_rows, replicated
from xmc_jax.types import UserError


def test_the_mesh_is_one_auto_axis_over_all_devices():
  mesh = make_mesh()
  assert mesh.shape == {'data': 8} and mesh.axis_types == (jax.sharding.AxisType.Auto,)
  assert make_mesh(jax.devices()[:3]).devices.tolist() == jax.devices()[:3]


@pytest.mark.parametrize('rounds, x', [(True, np.arange(32).reshape(2, 16)),
                                       (False, np.arange(16))])
def test_each_device_holds_its_rows_of_every_round(rounds, x):
  array = put_rows({'x': x}, by_row(make_mesh(), rounds=rounds))['x']
  np.testing.assert_array_equal(array, x)
  for i, shard in enumerate(array.addressable_shards):
    np.testing.assert_array_equal(shard.data, x[..., 2 * i:2 * i + 2])


def test_replicated_arrays_are_whole_on_every_device():
  array = jax.device_put(np.arange(5), replicated(make_mesh()))
  assert [shard.data.shape for shard in array.addressable_shards] == [(5,)] * 8


@pytest.mark.parametrize('rows', [8, 16, 256])
def test_rows_that_the_devices_divide_pass(rows):
  check_rows(rows, 1, make_mesh())


@pytest.mark.parametrize('rows, near', [(1, 8), (7, 8), (12, 8), (31, 24), (0, 8), (-8, 8)])
def test_others_are_the_users_mistake_with_a_number_that_works(rows, near):
  with pytest.raises(UserError, match=f'batch_size={rows}: .* devices, 8; .*batch_size={near}$'):
    check_rows(rows, 1, make_mesh())


def test_the_devices_divide_each_microbatch():
  check_rows(64, 4, make_mesh())
  with pytest.raises(UserError, match='batch_size=48: .* 8 times .*microbatches=4; .*size=32$'):
    check_rows(48, 4, make_mesh())
