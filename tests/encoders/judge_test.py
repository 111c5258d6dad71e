"""The judge's network and its weights file."""
import numpy as np
import pytest

from xmc_jax.encoders import judge


def batch(rows=2):
  rng = np.random.default_rng(0)
  images = rng.uniform(size=(rows, judge.SIDE, judge.SIDE, 3)).astype(np.float32)
  return images, rng.normal(size=(rows, judge.SENTENCE)).astype(np.float32)


@pytest.mark.parametrize('name', judge.NAMES)
def test_codes_have_unit_length_and_left_is_not_right(name):
  module, variables = judge.load(judge.find(name))
  images, sentences = batch()
  pictures, captions, _ = module.apply(variables, images, sentences)
  for code in (pictures, captions):
    assert code.shape == (2, 128)
    np.testing.assert_allclose(np.linalg.norm(code, axis=1), 1, atol=1e-5)
  half = np.where(np.arange(64)[None, None, :, None] < 32, images, 1)
  a, b = (module.apply(variables, x, method='picture') for x in (half, half[:, :, ::-1]))
  assert (np.sum(a * b, 1) < 0.99).all()
