"""SqueezeNet 1.1 against torchvision's with random weights; goldens store its outputs.

  pytest tests/encoders/squeezenet_test.py --regenerate       # where torchvision is installed

The real weights are tried on photographs in classifiers_test.py.
"""
import jax
import networks
import numpy as np
import pytest

from xmc_jax.encoders import squeezenet
from xmc_jax.types import UserError

SIDE = 68  # a size at which windows of pools hang over the end

# Layers of torchvision's `features` that are fire modules.
FIRES = {3: 'fire2', 4: 'fire3', 6: 'fire4', 7: 'fire5', 9: 'fire6', 10: 'fire7', 11: 'fire8',
         12: 'fire9'}


def as_packaged(state):
  """A state dict of torchvision as ndf's file would have it."""
  names = {'features.0': 'conv1', 'classifier.1': 'conv10'}
  for number, fire in FIRES.items():
    for part in ('squeeze', 'expand1x1', 'expand3x3'):
      names[f'features.{number}.{part}'] = f"{fire}/{part.replace('squeeze', 'squeeze1x1')}"
  arrays = {}
  for name, value in state.items():
    stem, leaf = name.rsplit('.', 1)
    if leaf == 'weight':
      arrays[f'{names[stem]}/0'] = value.transpose(2, 3, 1, 0)
    else:
      arrays[f'{names[stem]}/1'] = value
  return arrays


@pytest.fixture(name='ours', scope='module')
def _ours():
  module = squeezenet.SqueezeNet()
  state = networks.random_state(networks.golden('squeezenet')[0])
  return module, squeezenet.from_package(as_packaged(state), module)


def test_the_network_equals_the_stored_outputs_of_torchvision(ours):
  _, pool, logits = networks.golden('squeezenet')
  found = networks.run(*ours, networks.images(SIDE) / 255)
  assert found[0].shape == (2, 512) and found[1].shape == (2, 1000)
  networks.assert_near(found[0][:, :8], pool)
  networks.assert_near(found[1][:, :8], logits)


def test_the_network_equals_torchvision(request):
  torchvision = pytest.importorskip('torchvision')
  x = networks.images(SIDE) / 255
  theirs = torchvision.models.squeezenet1_1(weights=None)
  shapes, pool, logits = networks.run_torch(theirs, theirs.classifier[0], x)
  if request.config.getoption('regenerate'):
    networks.write_golden('squeezenet', shapes, pool, logits)
  module = squeezenet.SqueezeNet()
  variables = squeezenet.from_package(as_packaged(networks.random_state(shapes)), module)
  found = networks.run(module, variables, x)
  networks.assert_near(found[0], pool)
  networks.assert_near(found[1], logits)


def test_scaling_turns_rgb_to_bgr_and_takes_the_means_away():
  blue = np.asarray(squeezenet.scaled(np.float32([[0, 10, 200]])))
  np.testing.assert_allclose(blue, [[200 - 103.939, 10 - 116.779, -123.68]], rtol=1e-6)


def test_it_has_the_published_number_of_parameters(ours):
  assert sum(x.size for x in jax.tree.leaves(ours[1])) == 1_235_496


def test_another_networks_arrays_are_refused():
  with pytest.raises(UserError, match='no tensor conv1/1'):
    squeezenet.from_package({'conv1/0': np.ones((3, 3, 3, 64))}, squeezenet.SqueezeNet())
