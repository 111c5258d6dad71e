import numpy as np
import pytest

from xmc_jax.data.plan import caption_number, other_caption_number, plan


@pytest.mark.parametrize('size, rounds, rows', [(10, 1, 5), (7, 2, 3), (3, 2, 4), (64, 2, 8)])
def test_every_epoch_covers_everything_once(size, rounds, rows):
  steps = 5 * size
  order = np.concatenate([plan(size, True, 3, s, rounds, rows).index.ravel() for s in range(steps)])
  epochs = order[:len(order) // size * size].reshape(-1, size)
  np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(size), (len(epochs), 1)))
  assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_step_is_a_function_of_seed_and_step():
  late = plan(100, True, 5, 7, 2, 8)
  for step in range(7):
    plan(100, True, 5, step, 2, 8)
  again = plan(100, True, 5, 7, 2, 8)
  for a, b in zip(late.__dict__.values(), again.__dict__.values(), strict=True):
    np.testing.assert_array_equal(a, b)
  assert (plan(100, True, 6, 7, 2, 8).index != late.index).any()
  assert (plan(100, True, 5, 8, 2, 8).caption != late.caption).all()


def test_examples_that_belong_together_are_neighbors_and_read_as_one():
  pairs, halves = plan(100, True, 5, 7, 2, 8, together=2), plan(50, True, 5, 7, 2, 4)
  np.testing.assert_array_equal(pairs.index[:, ::2], 2 * halves.index)
  np.testing.assert_array_equal(pairs.index[:, 1::2], 2 * halves.index + 1)
  np.testing.assert_array_equal(pairs.caption[:, ::2], pairs.caption[:, 1::2])
  assert len(set(pairs.caption.ravel())) == 8
  assert (pairs.crop[:, ::2] != pairs.crop[:, 1::2]).all()


def test_rounds_differ():
  one = plan(100, True, 0, 0, 2, 8)
  assert not set(one.index[0]) & set(one.index[1])
  assert (one.caption[0] != one.caption[1]).all()


def test_ranges_and_types():
  one = plan(1000, True, 0, 4, 3, 300)
  assert one.index.shape == one.caption.shape == one.flip.shape == (3, 300)
  assert one.crop.shape == (3, 300, 2) and one.crop.min() >= 0 and one.crop.max() < 1
  assert (abs(one.crop.mean((0, 1)) - 0.5) < 0.05).all()
  assert abs(np.corrcoef(one.crop.reshape(-1, 2).T)[0, 1]) < 0.1
  assert one.index.dtype == np.int64 and one.flip.dtype == bool
  assert one.caption.min() >= 0 and one.caption.max() < 1
  assert abs(one.caption.mean() - 0.5) < 0.05 and abs(one.flip.mean() - 0.5) < 0.06


def test_flips_only_where_allowed():
  assert not plan(1000, False, 0, 0, 1, 1000).flip.any()
  allowed = np.arange(1000) % 3 == 0
  one = plan(1000, allowed, 0, 0, 1, 1000)
  assert one.flip.any() and allowed[one.index[one.flip]].all()


def test_steps_far_away():
  assert plan(10, False, 0, 10**12, 2, 8).index.shape == (2, 8)


def test_rows():
  one = plan(50, True, 0, 0, 2, 6)
  np.testing.assert_array_equal(one.rows(2, 4).index, one.index[:, 2:4])
  np.testing.assert_array_equal(one.rows(2, 4).flip, one.flip[:, 2:4])
  np.testing.assert_array_equal(one.rows(2, 4).crop, one.crop[:, 2:4])


def test_flat():
  one = plan(50, True, 0, 0, 2, 6)
  for flat, leaf in zip(one.flat().leaves(), one.leaves(), strict=True):
    np.testing.assert_array_equal(flat, np.concatenate(list(leaf)))


def test_the_numbers_stay_those_of_earlier_runs():
  """A run that goes on must read what it would have read when it began."""
  one = plan(10, True, 3, 5, 2, 4)
  np.testing.assert_array_equal(one.index, [[8, 7, 2, 4], [5, 0, 9, 3]])
  np.testing.assert_array_equal(one.flip, [[1, 0, 1, 0], [1, 0, 0, 1]])
  np.testing.assert_allclose(one.caption[1], [0.72451496, 0.69076383, 0.85699455, 0.33012879],
                             atol=1e-8)
  np.testing.assert_allclose(one.crop[1, 2:], [[0.16054156, 0.5779138], [0.0013625, 0.34267369]],
                             atol=1e-8)


def test_captions_by_number():
  assert [caption_number(choice, 3) for choice in (0, 0.33, 0.34, 0.67, 0.9999)] == [0, 0, 1, 2, 2]
  others = [[other_caption_number(choice, 3, taken) for choice in (0, 0.49, 0.5, 0.9999)]
            for taken in range(3)]
  assert others == [[1, 1, 2, 2], [0, 0, 2, 2], [0, 0, 1, 1]]
  assert other_caption_number(0.9, 1, 0) == 0
