"""The alignment network and its weights."""
import numpy as np
import pytest

from xmc_jax.evals.networks import alignment_net


def batch(rows=2):
  rng = np.random.default_rng(0)
  images = rng.uniform(size=(rows, alignment_net.SIDE, alignment_net.SIDE, 3)).astype(np.float32)
  return images, rng.normal(size=(rows, alignment_net.SENTENCE)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize('name', alignment_net.NAMES)
def test_embeddings_have_unit_length_and_left_is_not_right(name):
  module, variables = alignment_net.load(alignment_net.find(name))
  images, sentences = batch()
  of_images, of_captions, _ = module.apply(variables, images, sentences)
  for embeddings in (of_images, of_captions):
    assert embeddings.shape == (2, 128)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
  half = np.where(np.arange(64)[None, None, :, None] < 32, images, 1)
  a, b = (module.apply(variables, x, method='image') for x in (half, half[:, :, ::-1]))
  assert (np.sum(a * b, 1) < 0.99).all()
