"""Grids of images and PNG files."""
import numpy as np
import pytest
from PIL import Image, ImageFont

from xmc_jax.types import UserError
from xmc_jax.utils import image_io


def images(n, side):
  return np.random.default_rng(0).uniform(size=(n, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize('n, side, columns, shape', [
    (8, 32, 4, (6 + 2 * 102, 6 + 4 * 102, 3)),     # 96 pixels and a margin of 6
    (5, 64, 4, (6 + 2 * 134, 6 + 4 * 134, 3)),
    (3, 128, 4, (6 + 134, 6 + 3 * 134, 3)),        # no more columns than images
    (2, 240, 1, (10 + 2 * 250, 10 + 250, 3)),      # the margin grows with the image
])
def test_sizes_without_captions(n, side, columns, shape):
  made = image_io.grid(images(n, side), [''] * n, columns)
  assert made.shape == shape and made.dtype == np.uint8


def test_images_are_in_reading_order_on_white():
  made = image_io.grid(images(3, 96), [''] * 3, 2)
  expected = np.round(images(3, 96) * 255).astype(np.uint8)
  for i, (top, left) in enumerate([(6, 6), (6, 108), (108, 6)]):
    np.testing.assert_array_equal(made[top:top + 96, left:left + 96], expected[i])
  assert (made[:6] == 255).all() and (made[:, :6] == 255).all()
  assert (made[108:, 108:] == 255).all()


def test_scale_repeats_pixels():
  made = image_io.grid(images(1, 8), [''], 1, scale=3)
  image = made[6:30, 6:30]
  assert made.shape == (36, 36, 3)
  np.testing.assert_array_equal(
      image, np.round(images(1, 8)[0] * 255).repeat(3, 0).repeat(3, 1))


def test_values_outside_the_range_are_clipped():
  values = np.full((1, 96, 96, 3), 0.5, np.float32)
  values[0, 0, :2] = [[-1] * 3, [2] * 3]
  made = image_io.grid(values, [''], 1)
  assert made[6, 6:9].tolist() == [[0] * 3, [255] * 3, [128] * 3]


def test_captions_are_drawn_under_their_image_and_rows_grow_with_them():
  bare = image_io.grid(images(4, 96), [''] * 4, 2)
  short = image_io.grid(images(4, 96), ['', 'a red bird', '', ''], 2)
  long = image_io.grid(images(4, 96), ['', 'a red bird ' * 30, '', ''], 2)
  assert bare.shape[0] < short.shape[0] < long.shape[0]
  assert long.shape[0] - bare.shape[0] - 3 == 3 * (short.shape[0] - bare.shape[0] - 3)
  text = short[6 + 96:6 + 96 + short.shape[0] - bare.shape[0]]
  assert (text[:, :108] == 255).all() and (text[:, 108:204] < 128).any()
  assert (text[:, 204:] == 255).all()


@pytest.mark.parametrize('caption', [
    'a bird', 'a man riding a wave on top of a surfboard in the ocean while others watch him',
    'Donaudampfschifffahrtsgesellschaftskapitänsmütze ' * 3, 'w' * 200])
def test_lines_fit_and_long_captions_end_in_an_ellipsis(caption):
  font = ImageFont.load_default(12)
  lines = image_io._wrap(caption, font, 96)
  assert 1 <= len(lines) <= 3
  assert all(font.getlength(line) <= 96 for line in lines)
  whole = ''.join(lines).replace(' ', '') == caption.replace(' ', '')
  assert whole != lines[-1].endswith('…')
  assert caption.replace(' ', '').startswith(''.join(lines).replace(' ', '').rstrip('…'))


def test_characters_that_the_font_lacks_do_not_crash():
  captions = ['鳥 in 雪 😀', 'a\0b\ttab\nline', '\ud800 lone', '\u200f\u0301', '   ']
  assert image_io.grid(images(5, 32), captions, 5).shape[1] == 6 + 5 * 102


@pytest.mark.parametrize('arguments, words', [
    ((np.zeros((2, 8, 8)), ['', ''], 2), r'images must be \[n, h, w, 3\]'),
    ((np.zeros((0, 8, 8, 3)), [], 2), 'n > 0'),
    ((np.zeros((2, 8, 8, 3)), [''], 2), '2 images but 1 captions'),
    ((np.zeros((2, 8, 8, 3)), ['', ''], 0), 'positive'),
    ((np.full((1, 8, 8, 3), np.nan), [''], 1), 'NaN'),
    ((np.full((1, 8, 8, 3), np.inf), [''], 1), 'NaN'),
])
def test_wrong_arguments(arguments, words):
  with pytest.raises(ValueError, match=words):
    image_io.grid(*arguments)


def test_save_png_writes_all_or_nothing(tmp_path, monkeypatch):
  path = tmp_path / 'new' / 'folder' / 'grid.png'
  image = (images(1, 8)[0] * 255).astype(np.uint8)
  image_io.save_png(path, image)
  image_io.save_png(path, 255 - image)
  with Image.open(path) as saved:
    np.testing.assert_array_equal(np.asarray(saved), 255 - image)

  def fail(*_):
    raise OSError('disk full')
  monkeypatch.setattr(type(image_io.epath.Path(path)), 'replace', fail)
  with pytest.raises(UserError, match='grid.png: cannot be written'):
    image_io.save_png(path, image)
  with Image.open(path) as saved:
    np.testing.assert_array_equal(np.asarray(saved), 255 - image)


def test_save_png_where_no_file_can_be(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='grid.png: cannot be written'):
    image_io.save_png(tmp_path / 'file' / 'grid.png', np.zeros((2, 2, 3), np.uint8))
  with pytest.raises(ValueError, match='uint8'):
    image_io.save_png(tmp_path / 'grid.png', np.zeros((2, 2, 3), np.float32))
