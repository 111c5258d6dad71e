"""Semantic object accuracy with a scripted detector, and the public caption files."""
import pickle

import numpy as np
import pytest
from PIL import Image

from xmc_jax.evals import soa
from xmc_jax.evals.soa import Detection
from xmc_jax.types import UserError

BOX = (0.1, 0.2, 0.3, 0.4)


def detector(images):
  """Sees the class that an image's red value names, as sure as its green one in percent."""
  return [[Detection(99, 1.0, BOX), Detection(int(x[0, 0, 0]), x[0, 0, 1] / 100, BOX)]
          for x in images]


def painted(*pairs):
  images = np.zeros((len(pairs), 8, 8, 3), np.uint8)
  images[..., :2] = np.array(pairs)[:, None, None]
  return images


def caption_file(folder, name, captions, **dump):
  entries = [{'image_id': i, 'id': 7, 'idx': [i, 2], 'caption': text}
             for i, text in enumerate(captions)]
  with open(folder / f'{name}.pkl', 'wb') as file:
    pickle.dump(entries, file, **dump)


def test_a_hit_is_a_detection_of_the_class_that_is_sure_enough():
  images = painted((15, 90), (15, 50), (15, 49), (16, 90))
  np.testing.assert_array_equal(soa.hits(detector, images, 15), [True, True, False, False])
  np.testing.assert_array_equal(soa.hits(detector, images, 15, 0.6), [True, False, False, False])
  np.testing.assert_array_equal(soa.hits(lambda x: [[]] * 4, images, 15), [False] * 4)


def test_classes_count_alike_in_c_and_images_in_i():
  found = soa.soa({3: np.array([True, False]), 7: np.ones(8, bool)})
  assert found.by_class == pytest.approx(0.75)
  assert found.by_image == pytest.approx(0.9)
  assert (found.top, found.bottom) == (1.0, 0.5)
  assert found.classes == {3: 0.5, 7: 1.0}


def test_top_and_bottom_40_are_of_the_classes_with_most_and_fewest_images():
  # The first 40 classes have many images and are found in one of two, the others always.
  found = {c: np.arange(2 * (100 - c if c < 40 else 3)) % 2 < (1 if c < 40 else 2)
           for c in reversed(range(80))}
  scores = soa.soa(found)
  assert (scores.top, scores.bottom, scores.by_class) == pytest.approx((0.5, 1.0, 0.75))


def test_classes_of_equal_size_are_in_the_order_of_their_numbers():
  found = {9: np.array([True]), 1: np.array([False])}
  assert soa.soa(found)[2:4] == (1.0, 0.0)


def test_a_class_without_images_is_an_error():
  with pytest.raises(UserError, match=r'without images: \[5\]'):
    soa.soa({3: np.ones(2, bool), 5: np.ones(0, bool)})
  with pytest.raises(UserError, match='two classes'):
    soa.soa({3: np.ones(2, bool)})


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_public_caption_files_are_read_in_the_order_of_their_numbers(tmp_path, protocol):
  caption_file(tmp_path, 'label_15_cat', ['a cat', 'two cats'], protocol=protocol)
  caption_file(tmp_path, 'label_01_bicycle', ['a bicycle'], protocol=protocol)
  (tmp_path / 'other.pkl').write_bytes(b'')
  assert soa.read_captions(tmp_path) == [
    (1, 'label_01_bicycle', ('a bicycle',)), (15, 'label_15_cat', ('a cat', 'two cats'))]


class Call:

  def __reduce__(self):
    return print, ('this must not run',)


@pytest.mark.parametrize('content', [
  [Call()], [{'caption': Call()}], [{'caption': 3}], [{'text': 'a cat'}], 5, np.zeros(3)])
def test_a_file_of_anything_else_is_refused_and_runs_nothing(tmp_path, capsys, content):
  (tmp_path / 'label_15_cat.pkl').write_bytes(pickle.dumps(content))
  with pytest.raises(UserError, match='label_15_cat.pkl cannot be read'):
    soa.read_captions(tmp_path)
  assert capsys.readouterr().out == ''


def test_missing_damaged_and_doubled_files_are_errors(tmp_path):
  with pytest.raises(UserError, match='no caption files'):
    soa.read_captions(tmp_path)
  caption_file(tmp_path, 'label_15_cat', ['a cat'])
  caption_file(tmp_path, 'label_15_dog', ['a dog'])
  with pytest.raises(UserError, match='same number'):
    soa.read_captions(tmp_path)
  (tmp_path / 'label_15_dog.pkl').write_bytes(b'\x80')
  with pytest.raises(UserError, match='label_15_dog.pkl cannot be read'):
    soa.read_captions(tmp_path)


def test_three_images_of_a_caption_but_one_of_persons():
  assert soa.requests(1, 2) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
  people = soa.requests(0, 40_000)
  assert len(set(people)) == len(people) == 30_000
  assert {copy for _, copy in people} == {0}
  assert people == soa.requests(0, 40_000) != soa.requests(0, 40_000, seed=1)
  assert len(soa.requests(0, 5)) == 5


def test_the_public_scorer_finds_the_images_it_expects(tmp_path):
  images = painted((15, 90), (15, 20), (16, 90))
  paths = soa.write_images(tmp_path, 'label_15_cat', [(0, 0), (0, 1), (12, 0)], images)
  assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
    'label_15_cat/00000_0.png', 'label_15_cat/00000_1.png', 'label_15_cat/00012_0.png']
  # The scorer's rules: every entry is a class, the number is the two digits after `label_`.
  assert [int(p.name[6:8]) for p in tmp_path.iterdir()] == [15]
  assert {p.suffix for p in (tmp_path / 'label_15_cat').iterdir()} == {'.png'}
  read = np.stack([np.asarray(Image.open(path)) for path in paths])
  np.testing.assert_array_equal(soa.hits(detector, read, 15), [True, False, False])


def test_images_of_an_earlier_call_are_not_counted(tmp_path):
  image = np.zeros((1, 8, 8, 3), np.uint8)
  soa.write_images(tmp_path, 'label_01_bicycle', [(0, 0)], image)
  (tmp_path / 'label_01_bicycle' / '.00000_1.png.host-1.partial').touch()
  soa.check_folder(tmp_path, {'label_01_bicycle': [(0, 0), (0, 1)]})
  with pytest.raises(UserError, match='00000_0.png is there and not of these images'):
    soa.check_folder(tmp_path, {'label_01_bicycle': [(1, 0)]})
  with pytest.raises(UserError, match='00000_0.png is there'):
    soa.check_folder(tmp_path, {'label_02_car': [(0, 0)]})


@pytest.mark.parametrize('name', [
    'label_01_bicycle/old.jpg', 'label_01_bicycle/boxes.pkl', 'label_02_car/00000_0.JPEG'])
def test_other_files_that_the_public_scorer_would_read_are_refused(tmp_path, name):
  (tmp_path / name).parent.mkdir()
  (tmp_path / name).touch()
  with pytest.raises(UserError, match=f'{name} is there'):
    soa.check_folder(tmp_path, {'label_01_bicycle': [(0, 0)]})


def test_wrong_names_and_images_are_errors(tmp_path):
  with pytest.raises(UserError, match="'cat' must be like"):
    soa.write_images(tmp_path, 'cat', [(0, 0)], painted((1, 1)))
  with pytest.raises(ValueError, match='2 numbers but 1 images'):
    soa.write_images(tmp_path, 'label_15_cat', [(0, 0), (0, 1)], painted((1, 1)))
  with pytest.raises(ValueError, match='uint8'):
    soa.hits(detector, np.zeros((1, 8, 8, 3)), 1)
  with pytest.raises(ValueError, match='0 results for 1 images'):
    soa.hits(lambda x: [], painted((1, 1)), 1)
