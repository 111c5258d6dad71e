"""Folders of images: which files count, in which order, and how they are opened."""
import os
import struct

import numpy as np
import pytest
from PIL import Image

from xmc_jax.data.image_folder import SUFFIXES, find_images, to_rgb, upright
from xmc_jax.types import UserError


def touch(folder, *names):
  for name in names:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'')
  return folder


def names(folder):
  return list(find_images(folder).paths)


def test_images_of_all_suffixes_in_the_order_of_their_paths(tmp_path):
  wanted = [f'{i}{suffix}' for i, suffix in enumerate(SUFFIXES)]
  touch(tmp_path, *reversed(wanted), 'b/x.PNG', 'b/a/y.Jpeg', 'a.txt', 'png', 'b-c/z.jpg',
        'folder.png/inside.txt')
  assert names(tmp_path) == [*wanted, 'b-c/z.jpg', 'b/a/y.Jpeg', 'b/x.PNG']
  assert find_images(tmp_path).paths['b/x.PNG'] == tmp_path / 'b' / 'x.PNG'


def test_hidden_files_and_folders_are_skipped_and_counted(tmp_path):
  touch(tmp_path, 'a.png', '._a.png', 'b/.b.jpg', '.DS_Store', '.ipynb_checkpoints/a.png',
        '.git/c/a.png', 'b/__MACOSX/a.png', '@eaDir/a.png')
  found = find_images(tmp_path)
  assert list(found.paths) == ['a.png']
  assert (found.hidden_files, found.hidden_folders) == (2, 4)
  assert found.skipped() == {'hidden image files': 2, 'hidden folders': 4}
  assert find_images(touch(tmp_path / 'new', 'a.png')).skipped() == {}


def test_a_hidden_folder_can_be_searched_by_its_own_name(tmp_path):
  assert names(touch(tmp_path / '.images', 'a.png')) == ['a.png']


def test_links_are_followed(tmp_path):
  touch(tmp_path, 'elsewhere/x.png', 'set/a.png', 'set/more/b.png')
  (tmp_path / 'set' / 'c.png').symlink_to(tmp_path / 'elsewhere' / 'x.png')
  (tmp_path / 'set' / 'linked').symlink_to(tmp_path / 'elsewhere')
  (tmp_path / 'set' / 'again').symlink_to(tmp_path / 'set' / 'more')
  (tmp_path / 'set' / 'broken.png').symlink_to(tmp_path / 'none.png')
  assert names(tmp_path / 'set') == ['a.png', 'again/b.png', 'broken.png', 'c.png', 'linked/x.png',
                                     'more/b.png']
  (tmp_path / 'all').symlink_to(tmp_path / 'set')
  assert len(names(tmp_path / 'all')) == 6


def test_a_link_to_a_folder_that_contains_it_is_refused(tmp_path):
  touch(tmp_path, 'a/b/x.png')
  (tmp_path / 'a' / 'b' / 'up').symlink_to(tmp_path / 'a')
  with pytest.raises(UserError, match=r'^--images: .*up is a link to a folder that contains it'):
    find_images(tmp_path, '--images')


def test_a_link_to_itself_is_to_be_removed(tmp_path):
  touch(tmp_path, 'x.png')
  (tmp_path / 'self').symlink_to('self')
  with pytest.raises(UserError, match='self: .*remove the link'):
    find_images(tmp_path)


def test_accents_have_one_form(tmp_path):
  touch(tmp_path, 'e\u0301.png')
  assert names(tmp_path) == ['\u00e9.png']
  touch(tmp_path, '\u00e9.png')
  with pytest.raises(UserError, match='same name but for its Unicode form'):
    find_images(tmp_path)


def test_what_is_no_folder(tmp_path):
  for path in (tmp_path / 'none', touch(tmp_path, 'a.zip') / 'a.zip'):
    with pytest.raises(UserError, match=rf'^--images: .*{path.name} is not a folder'):
      find_images(path, '--images')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read every folder')
def test_a_folder_that_cannot_be_read(tmp_path):
  (touch(tmp_path, 'a/x.png') / 'a').chmod(0)
  with pytest.raises(UserError, match='a: cannot be read'):
    find_images(tmp_path)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_images_are_turned_upright(tmp_path, orientation):
  pixels = np.zeros((20, 10, 3), np.uint8)
  pixels[:10, :5] = 255                       # white in the top left corner
  image = Image.fromarray(pixels)
  exif = image.getexif()
  exif[0x0112] = orientation
  image.save(tmp_path / 'a.png', exif=exif)
  with Image.open(tmp_path / 'a.png') as opened:
    turned = np.asarray(upright(opened))
  slow = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1],
          4: lambda a: a[::-1], 5: lambda a: a.transpose(1, 0, 2),
          6: lambda a: np.rot90(a, -1), 7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
          8: lambda a: np.rot90(a)}[orientation]
  np.testing.assert_array_equal(turned, slow(pixels))


def test_a_transparent_value_of_16_bits_is_white(tmp_path):
  values = np.array([[0, 40000, 65535, 1234]], np.uint16)
  Image.fromarray(values).save(tmp_path / 'a.png', transparency=1234)
  with Image.open(tmp_path / 'a.png') as image:
    assert image.mode == 'I;16' and image.info['transparency'] == 1234
    assert np.asarray(to_rgb(image))[0, :, 0].tolist() == [0, 40000 >> 8, 255, 255]


@pytest.mark.parametrize('kind', [np.uint16, np.int32])
@pytest.mark.parametrize('high', [255, 4095])
def test_a_tiff_of_more_bits_than_its_values_need_has_no_known_range(tmp_path, kind, high):
  """Of 8-bit or 12-bit values in 16 bits, the upper 8 bits would be a black image."""
  Image.fromarray(np.array([[0, 100, high]], kind)).save(tmp_path / 'a.tif')
  with Image.open(tmp_path / 'a.tif') as image, pytest.raises(ValueError, match='no known range'):
    upright(image)
  Image.fromarray(np.array([[0, 256, 65535]], kind)).save(tmp_path / 'a.tif')
  with Image.open(tmp_path / 'a.tif') as image:
    assert np.asarray(to_rgb(upright(image)))[0, :, 0].tolist() == [0, 1, 255]
  Image.fromarray(np.array([[0, 100, 255]], np.uint16)).save(tmp_path / 'a.png')
  with Image.open(tmp_path / 'a.png') as image:      # whose range is the format's
    assert not np.asarray(to_rgb(upright(image))).any()


def tiff(tags, data=b''):
  """A TIFF block: {tag: (type, count, value or bytes)}; tag 273 gets the offset of `data`."""
  start = 8 + 2 + 12 * len(tags) + 4
  extra, entries = b'', b''
  for tag, (kind, count, value) in sorted(tags.items()):
    if isinstance(value, bytes) and len(value) > 4:
      value, extra = start + len(extra), extra + value
    if tag == 273:
      long = [v for _, _, v in tags.values() if isinstance(v, bytes) and len(v) > 4]
      value = start + sum(map(len, long))
    value = value.ljust(4, b'\0') if isinstance(value, bytes) else struct.pack('<I', value)
    entries += struct.pack('<HHI', tag, kind, count) + value
  return (b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries + bytes(4)) + extra + data


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'CMYK'])
def test_a_tiff_of_colors_with_more_bits_than_its_values_need_has_no_known_range(tmp_path, mode):
  def opened(values):
    h, w, c = values.shape
    bits = 8 * values.dtype.itemsize
    tags = {256: (4, 1, w), 257: (4, 1, h), 258: (3, c, struct.pack(f'<{c}H', *c * [bits])),
            259: (3, 1, 1), 262: (3, 1, 5 if mode == 'CMYK' else 2), 273: (4, 1, 0),
            277: (3, 1, c), 278: (4, 1, h), 279: (4, 1, values.nbytes)}
    if mode == 'RGBA':
      tags[338] = (3, 1, 2)
    (tmp_path / 'a.tif').write_bytes(tiff(tags, values.astype(f'<u{bits // 8}').tobytes()))
    with Image.open(tmp_path / 'a.tif') as image:
      assert image.mode == mode
      return np.asarray(to_rgb(upright(image)))
  pixels = np.full((4, 5, len(mode)), 200, np.uint16)
  for factor in (1, 16):      # 8 and 12 bits
    with pytest.raises(ValueError, match='no known range'):
      opened(factor * pixels)
  assert (opened(257 * pixels) >= 200).all() == (mode != 'CMYK')
  opened(np.zeros(pixels.shape, np.uint8))      # no fault of 8 bits


def test_an_image_is_turned_although_another_tag_is_not_what_it_should_be(tmp_path):
  """ImageOps.exif_transpose cannot write a resolution in words again, and leaves the pixels."""
  tags = {0x0112: (3, 1, 6), 0x011A: (2, 8, b'seventy\0')}
  Image.new('RGB', (20, 10)).save(tmp_path / 'a.jpg', exif=b'Exif\0\0' + tiff(tags))
  with Image.open(tmp_path / 'a.jpg') as image:
    assert upright(image).size == (10, 20)


def test_transparency_is_put_on_white():
  image = Image.new('RGBA', (2, 1), (200, 0, 0, 255))
  image.putpixel((1, 0), (0, 0, 200, 0))
  assert np.asarray(to_rgb(image)).tolist() == [[[200, 0, 0], [255, 255, 255]]]
  rgb = Image.new('RGB', (2, 1))
  assert to_rgb(rgb) is rgb
  assert to_rgb(Image.new('L', (1, 1), 7)).getpixel((0, 0)) == (7, 7, 7)
  with pytest.raises(ValueError, match='mode F'):
    to_rgb(Image.new('F', (1, 1), 0.5))
