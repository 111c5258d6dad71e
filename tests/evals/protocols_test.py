"""The protocols: ranges, resizes and names, and that none is taken for another."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmc_jax.encoders import registry
from xmc_jax.encoders.features import Features
from xmc_jax.evals import protocols
from xmc_jax.types import UserError


def seen_by_the_network(name, images, monkeypatch):
  """What a protocol feeds its network, from uint8 images."""
  class Show:
    def apply(self, variables, x):
      return Features(x, x)
  monkeypatch.setattr(registry, 'load', lambda *_, **__: registry.Loaded(Show(), {}, 'hash', None))
  extractor = protocols.find(name).feature_extractor()
  ready = extractor.preprocess(images) if extractor.preprocess else jnp.asarray(images)
  return np.asarray(extractor.apply(extractor.variables, ready).pool)


RANGES = {'tf2015': (-1, 127 / 128), 'clean': (-1, 127 / 128), 'pytorch-fid': (-1, 1),
          'legacy-keras': (-1, 1), 'offline': (-127 / 128, 1)}


@pytest.mark.parametrize('name', RANGES)
def test_black_and_white_become_the_ends_of_the_range(monkeypatch, name):
  for value, expected in zip((0, 255), RANGES[name]):
    shown = seen_by_the_network(name, np.full((1, 20, 20, 3), value, np.uint8), monkeypatch)
    side = 224 if name == 'offline' else 299
    assert shown.shape == (1, side, side, 3)
    np.testing.assert_allclose(shown, expected, atol=1e-6)


@pytest.mark.parametrize('name', ['legacy-torchvision', 'legacy-torchvision-pil'])
def test_range_bug_of_the_legacy_protocols_is_there(monkeypatch, name):
  """The published analysis: red -0.03 to 0.43, green -0.09 to 0.36, blue -0.19 to 0.26."""
  for value, expected in ((0, (-0.03, -0.088, -0.188)), (255, (0.428, 0.36, 0.262))):
    shown = seen_by_the_network(name, np.full((1, 16, 16, 3), value, np.uint8), monkeypatch)
    np.testing.assert_allclose(shown.reshape(-1, 3).mean(0), expected, atol=5e-4)


def test_no_two_protocols_feed_the_same(monkeypatch):
  images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
  images = np.repeat(np.repeat(images[:, ::8, ::8], 8, 1), 8, 2)
  shown = {(p.weights, seen_by_the_network(name, images, monkeypatch).tobytes())
           for name, p in protocols.PROTOCOLS.items()}
  assert len(shown) == len(protocols.PROTOCOLS)


def test_only_the_2015_networks_and_their_like_are_called_fid():
  for name, protocol in protocols.PROTOCOLS.items():
    assert (protocol.distance == 'FID') == protocol.weights.startswith('inception'), name
    assert protocol.weights in registry.ENTRIES


def test_differences_from_what_is_published_are_said():
  protocol = protocols.find('tf2015')
  assert protocol.differences(30_000, 40_504) == []
  assert protocol.differences(1_000, 198) == ['1,000 fakes instead of 30,000']
  assert protocols.find('offline').differences(5, 6) == []


def test_unknown_protocol_and_missing_weights(monkeypatch, tmp_path):
  with pytest.raises(UserError, match='tf2015, clean, pytorch-fid'):
    protocols.find('fid')
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(tmp_path))
  monkeypatch.setenv('XMC_JAX_CACHE', str(tmp_path / 'cache'))
  with pytest.raises(UserError, match='pt_inception-2015-12-05-6726825d.pth'):
    protocols.find('tf2015').feature_extractor()


def test_random_weights_are_called_random():
  extractor = protocols.find('offline').feature_extractor(random_seed=0)
  assert extractor.sha256 == 'random'
  found = jax.eval_shape(extractor.apply, extractor.variables,
                         jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.uint8))
  assert found.pool.shape == (2, 1280) and found.logits.shape == (2, 1000)
