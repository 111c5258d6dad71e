"""ResNet-50 against torchvision with random weights; goldens store its outputs.

  pytest tests/encoders/resnet_test.py --regenerate       # where torchvision is installed
"""
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

from xmc_jax.encoders import resnet
from xmc_jax.types import UserError

SIDE = 64


@pytest.fixture(name='ours', scope='module')
def _ours():
  module = resnet.ResNet50()
  state = networks.random_state(networks.golden('resnet50')[0])
  return module, resnet.from_torch(state, module)


@pytest.mark.slow
def test_the_network_equals_the_stored_outputs_of_torchvision(ours):
  _, pool, logits = networks.golden('resnet50')
  found = networks.run(*ours, resnet.scaled(networks.images(SIDE)))
  assert found[0].shape == (2, 2048) and found[1].shape == (2, 1000)
  networks.assert_near(found[0][:, :8], pool)
  networks.assert_near(found[1][:, :8], logits)


def test_the_network_equals_torchvision(request):
  torchvision = pytest.importorskip('torchvision')
  x = np.asarray(resnet.scaled(networks.images(SIDE)))
  theirs = torchvision.models.resnet50(weights=None)
  shapes, pool, logits = networks.run_torch(theirs, theirs.fc, x)
  if request.config.getoption('regenerate'):
    networks.write_golden('resnet50', shapes, pool, logits)
  module = resnet.ResNet50()
  found = networks.run(module, resnet.from_torch(networks.random_state(shapes), module), x)
  networks.assert_near(found[0], pool)
  networks.assert_near(found[1], logits)


def test_scaling_is_that_of_torchvisions_presets():
  black, white = np.asarray(resnet.scaled(np.float32([[0] * 3, [255] * 3])))
  np.testing.assert_allclose(black, [-2.117904, -2.035714, -1.804444], atol=1e-5)
  np.testing.assert_allclose(white, [2.248908, 2.428571, 2.64], atol=1e-5)


def test_it_has_the_published_number_of_parameters(ours):
  assert sum(x.size for x in jax.tree.leaves(ours[1]['params'])) == 25_557_032


def test_bfloat16_computes_close_to_float32_and_returns_float32(ours):
  x = resnet.scaled(networks.images(SIDE))
  low = networks.run(resnet.ResNet50(dtype=jnp.bfloat16, precision=None), ours[1], x)
  assert low[0].dtype == low[1].dtype == np.float32
  exact = networks.run(*ours, x)
  error = np.linalg.norm(low[0] - exact[0]) / np.linalg.norm(exact[0])
  assert 0 < error < 0.05


def test_a_state_dict_without_a_tensor_is_refused():
  state = networks.random_state(networks.golden('resnet50')[0])
  del state['layer3.2.bn2.running_var']
  with pytest.raises(UserError, match='no tensor layer3.2.bn2.running_var'):
    resnet.from_torch(state, resnet.ResNet50())
