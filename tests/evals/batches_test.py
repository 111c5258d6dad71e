"""Functions applied in batches: the values of one call, with one shape per batch."""
import numpy as np
import pytest

from xmc_jax.evals.batches import in_batches


@pytest.mark.parametrize('batch, rows', [(1, 1), (2, 2), (3, 3), (5, 5), (6, 6), (8, 8), (128, 8)])
def test_values_are_those_of_one_call_and_all_batches_have_one_shape(batch, rows):
  x, y = np.arange(10.0).reshape(5, 2), np.arange(5)
  shapes = set()

  def function(x, y):
    shapes.add((x.shape, y.shape))
    return {'sum': x.sum(1) + y, 'pair': (x, y)}

  found = in_batches(function, x, y, batch=batch)
  assert shapes == {((rows, 2), (rows,))}
  np.testing.assert_array_equal(found['sum'], x.sum(1) + y)
  np.testing.assert_array_equal(found['pair'][0], x)
  np.testing.assert_array_equal(found['pair'][1], y)
