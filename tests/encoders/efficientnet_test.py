"""EfficientNet-Lite0 against its PyTorch port with random weights; goldens store its outputs.

  pip install efficientnet-lite-pytorch==0.1.0        # needs torch
  pytest tests/encoders/efficientnet_test.py --regenerate

The real weights are tried on photographs in classifiers_test.py.
"""
import jax
import networks
import numpy as np
import pytest

from xmc_jax.encoders import efficientnet
from xmc_jax.types import UserError


@pytest.fixture(name='ours', scope='module')
def _ours():
  module = efficientnet.EfficientNetLite0()
  state = networks.random_state(networks.golden('efficientnet')[0])
  return module, efficientnet.from_torch(state, module)


def images():
  return efficientnet.scaled(networks.images(efficientnet.SIDE))


def test_the_network_equals_the_stored_outputs_of_its_torch_port(ours):
  _, pool, logits = networks.golden('efficientnet')
  found = networks.run(*ours, images())
  assert found[0].shape == (2, 1280) and found[1].shape == (2, 1000)
  networks.assert_near(found[0][:, :8], pool)
  networks.assert_near(found[1][:, :8], logits)


def test_the_network_equals_its_torch_port(request):
  port = pytest.importorskip('efficientnet_lite_pytorch')
  theirs = port.EfficientNet.from_name('efficientnet-lite0')
  shapes, pool, logits = networks.run_torch(theirs, theirs._fc, images())
  if request.config.getoption('regenerate'):
    networks.write_golden('efficientnet', shapes, pool, logits)
  module = efficientnet.EfficientNetLite0()
  variables = efficientnet.from_torch(networks.random_state(shapes), module)
  found = networks.run(module, variables, images())
  networks.assert_near(found[0], pool)
  networks.assert_near(found[1], logits)


def test_scaling_is_that_of_the_lite_networks():
  np.testing.assert_allclose(efficientnet.scaled(np.float32([0, 127, 255])), [-127 / 128, 0, 1])


def test_it_has_the_published_number_of_parameters(ours):
  assert sum(x.size for x in jax.tree.leaves(ours[1]['params'])) == 4_652_008


def test_a_state_dict_without_a_tensor_is_refused():
  state = networks.random_state(networks.golden('efficientnet')[0])
  del state['_blocks.7._depthwise_conv.weight']
  with pytest.raises(UserError, match='no tensor _blocks.7._depthwise_conv.weight'):
    efficientnet.from_torch(state, efficientnet.EfficientNetLite0())
