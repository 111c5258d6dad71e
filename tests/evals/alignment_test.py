"""The alignment networks of the package on real held-out images."""
import numpy as np
import pytest

from xmc_jax.data import source
from xmc_jax.encoders import bert
from xmc_jax.evals import alignment
from xmc_jax.types import UserError

# R-precision among 16 on 150 real held-out images; chance is 0.0625.
LEAST = {'emoji': 0.5, 'emoji_scenes': 0.93}


@pytest.fixture(name='minilm')
def _minilm():
  try:
    bert.find(bert.MINILM)
  except UserError as error:
    pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize('name', LEAST)
def test_real_heldout_images_match_their_captions(minilm, name):
  data = source.load(name, 'heldout', 64)
  rows = np.linspace(0, len(data) - 1, 150).astype(int)
  images = np.stack([data.image(i) for i in rows]) / np.float32(255)
  captions = [data.captions(i)[0] for i in rows]
  assert alignment.alignment(images, captions, name) >= LEAST[name]
  shuffled = np.random.default_rng(0).permutation(150)
  assert alignment.alignment(images[shuffled], captions, name) <= 0.15


def test_images_of_another_size_are_resized(minilm):
  small = np.random.default_rng(0).uniform(size=(3, 16, 16, 3)).astype(np.float32)
  large = small.repeat(8, 1).repeat(8, 2)
  a, b = alignment.image_embeddings(small, 'emoji'), alignment.image_embeddings(large, 'emoji')
  assert a.shape == (3, 128)
  np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, atol=1e-5)
  assert (np.sum(a * b, 1) > 0.8).all()


@pytest.mark.slow
def test_embeddings_do_not_depend_on_the_other_captions(minilm):
  captions = ['a red apple', 'two dogs and a cat on a green field under the sun', 'a house']
  together = alignment.caption_embeddings(captions, 'emoji')
  alone = np.concatenate([alignment.caption_embeddings([c], 'emoji') for c in captions])
  np.testing.assert_allclose(together, alone, atol=1e-5)
