"""Known groups: what is done to real emoji moves the offline protocol's numbers the right way."""
import jax
import numpy as np
import pytest
import toys
from PIL import Image, ImageFilter

from xmc_jax.data import source
from xmc_jax.evals import protocols, scores
from xmc_jax.evals.extract import FeatureCollector
from xmc_jax.training.mesh import make_mesh

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

N = 128


def blurred(images):
  return np.stack([np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(2)))
                   for p in images])


@pytest.fixture(scope='module')
def found():
  """{group: {metric: value}} against 128 real emoji of 64 px, none of them in a group."""
  rng = np.random.default_rng(0)
  real = source.load('emoji', 'train', 64).images
  real = real[rng.permutation(len(real))[:2 * N]]
  reference, others = real[:N], real[N:]
  noise = rng.normal(0, 0.1 * 255, others.shape)
  groups = {
      'reference': reference, 'real': others, 'blur': blurred(others),
      'noise': np.clip(others + noise, 0, 255).astype(np.uint8),
      'pure noise': rng.integers(0, 256, others.shape, np.uint8)}
  protocol = protocols.find('offline')
  collect = FeatureCollector([protocol.feature_extractor()], make_mesh(jax.devices()[:1]))
  features = {name: collect(toys.ArrayImages(images, name), quiet=True)['offline']
              for name, images in groups.items()}
  features['collapse'] = jax.tree.map(lambda x: np.repeat(x[:4], N // 4, 0), features['real'])
  reference = features.pop('reference')
  return {name: {score.metric: score.value
                 for score in scores.distances(group, reference, protocol)}
          for name, group in features.items()}


def test_distance_orders_the_groups(found):
  distance = [found[name]['FD-lite0'] for name in ('real', 'blur', 'noise', 'collapse',
                                                   'pure noise')]
  assert distance == sorted(distance)
  assert distance[1] > 1.2 * distance[0] and distance[4] > 2 * distance[1]


def test_unbiased_distance_of_real_from_real_is_about_zero(found):
  assert abs(found['real']['KID-lite0']) < 0.1 * found['blur']['KID-lite0']
  assert found['pure noise']['KID-lite0'] > found['noise']['KID-lite0']


def test_precision_falls_under_noise_and_recall_under_collapse(found):
  real = found['real']
  assert found['noise']['precision-lite0'] < real['precision-lite0'] / 2
  assert found['pure noise']['precision-lite0'] == 0
  assert found['collapse']['recall-lite0'] < real['recall-lite0'] / 4
  assert found['collapse']['precision-lite0'] > found['noise']['precision-lite0']


def test_coverage_falls_under_collapse_and_noise(found):
  for name in ('collapse', 'noise', 'pure noise'):
    assert found[name]['coverage-lite0'] < found['real']['coverage-lite0'] / 2
