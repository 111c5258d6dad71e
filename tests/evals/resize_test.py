"""The resizes are those of the libraries that the protocols are named after.

Theirs are stored as a hash and some pixels (tools/inception_goldens.py), and asked again where the
libraries are installed.
"""

import jax
import numpy as np
import pytest
import tiny

from xmc_jax.evals import resize

SIZES = (8, 64, 256, 300)
# Largest difference in units of the range, 0 for equal to the bit. Torch's own places of pixels are
# less exact where it antialiases.
NEAR = {'tf1_bilinear': 0, 'half_pixel_bilinear': 3e-7, 'antialiased_bilinear': 5e-6,
        'jax_bilinear': 5e-6, 'pil_bicubic': 0, 'pil_bilinear': 0}
DEVICE = [name for name in NEAR if not name.startswith('pil')]

tool = tiny.script('tools/inception_goldens.py')


def resized(name, images):
  function = getattr(resize, name)
  return np.asarray((jax.jit(function) if name in DEVICE else function)(images))


def theirs(name):
  """Of the libraries' resizes the one that `name` is."""
  return 'antialiased_bilinear' if name == 'jax_bilinear' else name


@pytest.fixture(scope='module', name='goldens')
def _goldens():
  with np.load(tool.RESIZES, allow_pickle=False) as file:
    return dict(file)


@pytest.mark.parametrize('side', SIZES)
@pytest.mark.parametrize('name', NEAR)
def test_it_is_the_library_that_was_stored(name, side, goldens):
  found = resized(name, tool.images(2, side))
  assert found.shape == (2, 299, 299, 3) and found.dtype == np.float32
  some = found[:, ::tool.STEP, ::tool.STEP]
  np.testing.assert_allclose(some, goldens[f'{theirs(name)}/{side}/some'], rtol=0,
                             atol=255 * NEAR[name])
  if not NEAR[name]:
    np.testing.assert_array_equal(tool.digest(found), goldens[f'{theirs(name)}/{side}/sha256'])


@pytest.mark.parametrize('side', [64, 256, 300, 512])
def test_it_is_the_library(side):
  for package in ('torch_fidelity', 'torchvision', 'cleanfid'):
    pytest.importorskip(package)
  wanted, images = tool.resized(side), tool.images(2, side)
  for name, near in NEAR.items():
    np.testing.assert_allclose(resized(name, images), wanted[theirs(name)], rtol=0, atol=255 * near)


def slow(images, side, offset):
  """Bilinear without antialias in float64, pixel by pixel."""
  h, w = images.shape[1:3]
  result = np.zeros((len(images), side, side, 3))
  for i in range(side):
    for j in range(side):
      y, x = (max((at + offset) * size / side - offset, 0) for at, size in ((i, h), (j, w)))
      up, left = int(y), int(x)
      down, right = min(up + 1, h - 1), min(left + 1, w - 1)
      dy, dx = y - up, x - left
      result[:, i, j] = ((1 - dy) * ((1 - dx) * images[:, up, left] + dx * images[:, up, right])
                         + dy * ((1 - dx) * images[:, down, left] + dx * images[:, down, right]))
  return result


@pytest.mark.parametrize('name, offset', [('tf1_bilinear', 0), ('half_pixel_bilinear', 0.5)])
@pytest.mark.parametrize('shape', [(9, 14), (30, 17)])
def test_bilinear_is_as_documented_for_any_shape(name, offset, shape):
  images = tool.images(2, 30)[:, :shape[0], :shape[1]]
  found = getattr(resize, name)(images, 21)
  np.testing.assert_allclose(found, slow(images, 21, offset), atol=6e-4)


@pytest.mark.parametrize('name', NEAR)
def test_equal_size_changes_nothing(name):
  images = tool.images(2, 40)
  np.testing.assert_array_equal(getattr(resize, name)(images, 40), images)


@pytest.mark.parametrize('name', DEVICE)
def test_any_range_comes_back(name):
  images = tool.images(1, 24)
  large, small = (resized(name, x) for x in (images, images.astype(np.float32) / 255))
  np.testing.assert_allclose(small, large / 255, atol=1e-6)


def test_bicubic_stays_in_range_and_is_not_rounded():
  images = np.zeros((1, 8, 8, 3), np.uint8)
  images[:, 3:5] = 255
  found = resize.pil_bicubic(images)
  assert found.min() == 0 and found.max() == 255 and (found % 1 > 0).any()


@pytest.mark.parametrize('name', ['pil_bicubic', 'pil_bilinear'])
def test_pillow_takes_files_images_only(name):
  with pytest.raises(TypeError, match='must be uint8, not float32'):
    getattr(resize, name)(np.zeros((1, 8, 8, 3), np.float32))
