"""The real weights that packages carry name photographs rightly, from the file to the class.

The photographs are crops of images that come with scikit-image, `chelsea` by Stefan van der Walt
and `coffee` by Rachel Michetti, both CC0.
"""
import jax
import networks
import numpy as np
import PIL.Image
import pytest

from xmc_jax.encoders import efficientnet, registry, squeezenet
from xmc_jax.types import UserError

CATS = [281, 282, 285]  # of ImageNet's 1,000 classes: tabby, tiger cat, Egyptian cat
ESPRESSO = 967
SCALED = {'efficientnet-lite0': efficientnet.scaled, 'squeezenet': squeezenet.scaled}


def photograph(name, side):
  with PIL.Image.open(networks.GOLDENS / f'{name}.jpg') as image:
    return np.float32(image.resize((side, side), PIL.Image.Resampling.BICUBIC))


@pytest.fixture(name='named', scope='module', params=SCALED)
def _named(request):
  """Pool, and probabilities of the classes, of the cat and the espresso."""
  name = request.param
  try:
    loaded = registry.load(name)
  except UserError as error:
    pytest.skip(str(error))
  side = registry.entry(name).side
  x = SCALED[name](np.stack([photograph('cat', side), photograph('espresso', side)]))
  features = jax.jit(loaded.module.apply)(loaded.variables, x)
  return np.asarray(features.pool), np.asarray(jax.nn.softmax(features.logits))


@pytest.mark.slow
def test_a_cat_is_a_cat_and_an_espresso_is_an_espresso(named):
  _, (cat, espresso) = named
  assert cat.argmax() in CATS and cat[CATS].sum() > 0.8
  assert espresso.argmax() == ESPRESSO and espresso[ESPRESSO] > 0.8


def test_features_are_finite_and_tell_the_photographs_apart(named):
  (cat, espresso), _ = named
  assert np.isfinite(cat).all() and np.isfinite(espresso).all()
  cosine = cat @ espresso / np.linalg.norm(cat) / np.linalg.norm(espresso)
  assert 0 <= cosine < 0.7
