"""Images of every kind become upright RGB files of the size that was asked for."""
import io

import numpy as np
import pytest
from PIL import Image
from toy_original import pixels

from xmc_jax.prepare import images
from xmc_jax.prepare.images import Storage, store
from xmc_jax.prepare.original import BadImage

LOSSLESS = Storage(32, codec='png')


def encode(image, codec='PNG', **options):
  file = io.BytesIO()
  image.save(file, codec, **options)
  return file.getvalue()


def decode(data):
  image = Image.open(io.BytesIO(data))
  assert image.mode == 'RGB'
  return np.asarray(image)


def flat(mode, colour, codec='PNG', size=(40, 40), **options):
  return encode(Image.new(mode, size, colour), codec, **options)


def palette(**options):
  image = Image.new('P', (40, 40), 1)
  image.putpalette([0, 0, 0, 200, 100, 50])
  return encode(image, **options)


def sixteen():
  return encode(Image.fromarray(np.full((40, 40), 0x80ff, np.uint16)))


@pytest.mark.parametrize('data, colour', [
    (flat('RGB', (200, 100, 50)), (200, 100, 50)),
    (flat('L', 77), (77, 77, 77)), (flat('1', 1), (255, 255, 255)),
    (flat('LA', (0, 51)), (204, 204, 204)),                    # a fifth of black on white
    (flat('RGBA', (200, 100, 50, 0)), (255, 255, 255)),
    (flat('RGBA', (255, 0, 0, 102)), (255, 153, 153)),         # two fifths of red on white
    (palette(), (200, 100, 50)), (palette(transparency=1), (255, 255, 255)),
    (flat('RGB', (9, 9, 9), transparency=(9, 9, 9)), (255, 255, 255)),
    (sixteen(), (128, 128, 128)),
    (flat('CMYK', (0, 255, 255, 0), 'JPEG', quality=100), (255, 0, 0)),
    (flat('L', 77, 'GIF'), (77, 77, 77)), (flat('RGB', (200, 100, 50), 'BMP'), (200, 100, 50)),
    (flat('RGBA', (255, 0, 0, 102), 'WEBP', lossless=True), (255, 153, 153))])
def test_every_mode_becomes_rgb_on_white(data, colour):
  found = decode(store(data, LOSSLESS).data)
  assert found.shape == (32, 32, 3)
  assert np.abs(found.astype(int) - colour).max() <= 2


@pytest.mark.parametrize('mode', ['I', 'F'])
def test_pixels_without_a_known_white_are_refused(mode):
  value = 1 << 20 if mode == 'I' else 0.5
  with pytest.raises(BadImage, match=f'mode {mode}'):
    store(flat(mode, value, 'TIFF'), LOSSLESS)


@pytest.mark.parametrize('orientation, turn', [
    (1, lambda x: x), (3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1)),
    (8, np.rot90), (2, lambda x: x[:, ::-1])])
def test_orientation_is_applied(orientation, turn):
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = encode(Image.fromarray(pixels(0, 40, 32)), exif=exif)
  np.testing.assert_array_equal(decode(store(data, LOSSLESS).data), turn(pixels(0, 40, 32)))


@pytest.mark.parametrize('size, storage, expected, enlarged, cut', [
    ((64, 48), Storage(32), (43, 32), False, False),
    ((48, 64), Storage(32), (32, 43), False, False),
    ((640, 480), Storage(256, 76 / 64), (405, 304), False, False),
    ((33, 33), Storage(32), (32, 32), False, False),
    ((20, 30), Storage(32), (32, 48), True, False),
    ((300, 100), Storage(32), (64, 32), False, True),
    ((100, 201), Storage(32), (32, 64), False, True),
    ((100, 200), Storage(32), (32, 64), False, False)])
def test_sides(size, storage, expected, enlarged, cut):
  found = store(flat('RGB', (1, 2, 3), size=size), storage)
  with Image.open(io.BytesIO(found.data)) as image:
    assert image.size == expected and image.format == 'JPEG'
  assert (found.enlarged, found.cut, found.kept) == (enlarged, cut, False)


def test_of_a_panorama_the_middle_is_kept():
  wide = np.zeros((32, 100, 3), np.uint8)
  wide[:, 18:82] = pixels(1, 64, 32)
  found = store(encode(Image.fromarray(wide)), LOSSLESS)
  np.testing.assert_array_equal(decode(found.data), pixels(1, 64, 32))


def test_reducing_takes_all_pixels_into_account():
  checks = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
  found = decode(store(encode(Image.fromarray(checks)), LOSSLESS).data)
  assert np.abs(found.astype(int) - 127).max() <= 2


def test_a_large_jpeg_decoded_at_a_fraction_is_nearly_the_same():
  y, x = np.mgrid[:480, :640] / 40
  wave = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1) * 100 + 128
  image = Image.fromarray(wave.astype(np.uint8))
  a = decode(store(encode(image, 'JPEG', quality=98), LOSSLESS).data)
  b = decode(store(encode(image), LOSSLESS).data)
  assert a.shape == b.shape == (32, 43, 3)
  assert np.abs(a.astype(int) - b).mean() < 1.5


@pytest.mark.parametrize('codec, options', [
    ('png', {}), ('jpeg', {'quality': 35}), ('webp', {'quality': 35})])
def test_a_image_as_it_should_be_keeps_its_bytes(codec, options):
  data = encode(Image.fromarray(pixels(2, 40, 32)), images.CODECS[codec], **options)
  found = store(data, Storage(32, codec=codec))
  assert found.kept and found.data == data
  other = 'png' if codec != 'png' else 'webp'
  assert not store(data, Storage(32, codec=other)).kept


def test_quality_is_that_of_the_codec():
  data = encode(Image.fromarray(pixels(3, 80, 64)))
  for codec in ('jpeg', 'webp'):
    sizes = [len(store(data, Storage(32, 1, codec, quality)).data) for quality in (10, 60, 95)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize('box, expected', [
    ((30, 20, 10, 20), (20, 15, 50, 45)),       # middle 35, 30; half a side 15
    ((30.5, 20.2, 9, 9), (29, 18, 41, 30)),     # int(35.0), int(24.7); int(6.75)
    ((0, 0, 20, 10), (0, 0, 25, 20)),           # cut at the left and above: no square
    ((80, 50, 20, 10), (75, 40, 100, 60))])
def test_square_around_a_box(box, expected):
  assert images.square_around(box, (100, 60)) == expected
  whole = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
  left, top, right, bottom = expected
  part = Image.fromarray(whole[top:bottom, left:right])
  assert store(encode(Image.fromarray(whole)), LOSSLESS, box) == store(encode(part), LOSSLESS)


@pytest.mark.parametrize('data, box, words', [
    (b'', None, 'no image'), (b'no image', None, 'no image'),
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', None, 'git lfs pull'),
    (encode(Image.fromarray(pixels(1)))[:900], None, 'truncated'),
    (encode(Image.fromarray(pixels(1)), 'JPEG')[:900], None, 'runcated'),
    (flat('RGB', (1, 2, 3), size=(90, 3)), None, 'only 90 x 3 px'),
    (flat('RGB', (1, 2, 3)), (100, 100, 4, 4), 'outside the image of 40 x 40')])
def test_broken_images(data, box, words):
  with pytest.raises(BadImage, match=words):
    store(data, LOSSLESS, box)


def test_a_bomb_is_bad(monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 300)
  with pytest.raises(BadImage, match='more than 600 px'):
    store(flat('RGB', (1, 2, 3)), LOSSLESS)


def test_a_png_whose_hidden_color_is_put_on_white_is_not_kept_as_it_is():
  found = store(flat('RGB', (0, 0, 0), transparency=(0, 0, 0)), Storage(40, codec='png'))
  assert not found.kept and (decode(found.data) == 255).all()
  assert store(flat('RGB', (0, 0, 0)), Storage(40, codec='png')).kept
