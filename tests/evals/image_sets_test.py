"""Sets of images: what is read, and the errors for unusable folders."""
import numpy as np
import pytest
import toys
from PIL import Image

from xmc_jax.data import source
from xmc_jax.evals import image_sets
from xmc_jax.types import UserError


def noise(n, side=8, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
  """Twelve PNG files, some in a folder inside."""
  (tmp_path / 'more').mkdir()
  for i, image in enumerate(noise(12)):
    Image.fromarray(image).save(tmp_path / ('more' if i > 8 else '') / f'{i:02d}.png')
  return tmp_path


def test_folder_reads_every_image_to_the_bit_in_the_order_of_paths(folder):
  read = image_sets.FolderImages(folder, '--images')
  assert len(read) == 12
  np.testing.assert_array_equal(read.read(range(12)), noise(12))
  np.testing.assert_array_equal(read.read([11, 3]), noise(12)[[11, 3]])


def test_folder_is_read_as_a_preparation_reads_it(folder):
  """Hidden files are skipped and counted; EXIF turns an image upright."""
  (folder / '._00.png').write_bytes(b'resource fork')
  (folder / '.ipynb_checkpoints').mkdir()
  image = Image.fromarray(noise(1)[0])
  exif = image.getexif()
  exif[0x0112] = 3
  image.save(folder / '00.PNG', exif=exif)
  (folder / '00.png').unlink()
  read = image_sets.FolderImages(folder, '--images')
  assert len(read) == 12 and read.skipped == {'hidden image files': 1, 'hidden folders': 1}
  np.testing.assert_array_equal(read.read([0])[0], noise(1)[0][::-1, ::-1])


def refused(folder, *words):
  with pytest.raises(UserError) as error:
    read = image_sets.FolderImages(folder, '--images')
    read.read(range(len(read)))
  for word in ('--images', *words):
    assert word in str(error.value)


def test_folder_that_is_not_there_or_holds_nothing(tmp_path, folder):
  refused(tmp_path / 'none', 'not a folder', 'none')
  (tmp_path / 'empty').mkdir()
  refused(tmp_path / 'empty', 'holds no images')


def test_images_of_mixed_sizes(folder):
  Image.fromarray(noise(1, 10)[0]).save(folder / '04.png')
  refused(folder, '04.png', '10 x 10', '8 x 8')


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'P', 'LA', 'CMYK'])
def test_images_that_are_not_rgb(folder, mode):
  name = '05.tif' if mode == 'CMYK' else '05.png'
  Image.fromarray(noise(1)[0]).convert(mode).save(folder / name)
  refused(folder, name, f'mode {mode}', 'RGB')


def test_images_with_a_transparent_color(folder):
  Image.fromarray(noise(1)[0]).save(folder / '05.png', transparency=(0, 0, 0))
  refused(folder, '05.png', 'a transparent color', 'RGB')


@pytest.mark.parametrize('damage', ['cut', 'text', 'empty'])
def test_damaged_images(folder, damage):
  path = folder / '07.png'
  whole = path.read_bytes()
  path.write_bytes({'cut': whole[:len(whole) // 2], 'text': b'no image', 'empty': b''}[damage])
  refused(folder, '07.png', 'cannot be read as an image')


def test_an_image_beyond_pillows_limit(folder, monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 20)      # an error above twice as many
  refused(folder, '.png', 'cannot be read as an image', 'exceeds limit')


def test_split_reads_a_data_set():
  heldout = source.load('emoji', 'heldout', 16)
  split = image_sets.SplitImages(heldout, 'heldout')
  assert split.name == 'emoji/heldout' and len(split) == len(heldout)
  np.testing.assert_array_equal(split.read([3, 0])[1], heldout.image(0))


def test_fingerprint_knows_pixels_order_number_and_size_but_not_the_batches():
  images = noise(10)
  of = lambda images, **how: image_sets.fingerprint(toys.ArrayImages(images, 'noise'), **how)
  first = of(images)
  assert first == of(images, batch=3) == of(images.copy())
  changed = images.copy()
  changed[9, 7, 7, 2] ^= 1
  others = [changed, images[::-1], images[:9], images.reshape(10, 4, 16, 3)]
  assert len({first, *map(of, others)}) == 5
