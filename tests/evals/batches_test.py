"""Functions applied in batches: the values of one call, with one shape per batch."""
import numpy as np
import pytest

from xmc_jax.evals.batches import batch_for, in_batches


@pytest.mark.parametrize('batch', [1, 2, 3, 5, 8])
def test_values_are_those_of_one_call_and_all_batches_have_one_shape(batch):
  x, y = np.arange(10.0).reshape(5, 2), np.arange(5)
  shapes = set()

  def function(x, y):
    shapes.add((x.shape, y.shape))
    return {'sum': x.sum(1) + y, 'pair': (x, y)}

  found = in_batches(function, x, y, batch=batch)
  assert shapes == {((batch, 2), (batch,))}
  np.testing.assert_array_equal(found['sum'], x.sum(1) + y)
  np.testing.assert_array_equal(found['pair'][0], x)
  np.testing.assert_array_equal(found['pair'][1], y)


@pytest.mark.parametrize('n, most, wanted', [
    (0, 128, 1), (1, 128, 1), (3, 128, 4), (8, 128, 8), (65, 128, 128), (500, 128, 128), (7, 5, 5)])
def test_a_few_examples_are_a_small_batch(n, most, wanted):
  assert batch_for(n, most) == wanted
