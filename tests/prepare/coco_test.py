"""MS-COCO-14 from miniature files in COCO's formats; what is expected is worked out by hand."""
import json
import pickle

import coco_files
import numpy as np
import pytest

from xmc_jax.prepare import coco
from xmc_jax.prepare.original import BadImage
from xmc_jax.types import UserError


@pytest.fixture
def folder(tmp_path):
  return coco_files.as_zips(tmp_path / 'coco', *coco_files.small_coco())


def examples(original, split):
  return list(original.examples(split, 0, original.counts[split]))


def test_images_come_by_number_with_their_captions(folder):
  original = coco.open(folder)
  assert original.counts == {'train': 3, 'heldout': 2}
  train, heldout = examples(original, 'train'), examples(original, 'heldout')
  assert [raw.more['image_id'] for raw in train] == [9, 25, 42]
  assert [raw.name for raw in heldout] == ['COCO_val2014_000000000005.jpg',
                                           'COCO_val2014_000000000007.jpg']
  assert [raw.captions for raw in train] == [
      ('Two dogs on the left', 'A dog near a car.'), ('leftover pizza, bright',),
      ('A person', 'nobody')]
  assert [raw.more['caption_ids'] for raw in train] == [[101, 103], [10], [7, 9]]
  assert [raw.captions for raw in heldout] == [('a man on the right',), ('a cat', 'the cat sits')]
  assert [raw.flippable for raw in train + heldout] == [False, True, True, False, True]
  for raw, number in zip(train, (9, 25, 42)):
    assert raw.image() == coco_files.jpeg(number)
  assert heldout[1].image() == coco_files.jpeg(7, 20, 10)


def test_labels_areas_and_boxes_are_those_of_the_objects(folder):
  original = coco.open(folder)
  assert original.class_names == ('person', 'car', 'dog') and original.several_labels
  dogs, none, person = examples(original, 'train')
  # Of 40 x 30 pixels: the car's outline is larger than the image, the dogs are 60.5 + 59.5.
  assert dogs.labels == (1, 2) and dogs.areas == (1.0, 0.1)
  assert dogs.more['boxes'] == [[0, 0, 40, 30], [1.25, 2, 10, 11.5], [5, 5, 6, 6]]
  assert dogs.more['box_labels'] == [1, 2, 2] and dogs.more['crowd'] == [0, 0, 1]
  assert dogs.more['size'] == [40, 30] and dogs.box is None
  assert none.labels == none.areas == () and none.more['boxes'] == []
  assert person.labels == (0,) and person.areas == (1 / 1200,)     # a pixel at least
  cats, dog = examples(original, 'heldout')
  assert cats.labels == () and dog.labels == (2,) and dog.areas == (80 / 200,)
  json.dumps([raw.more for raw in (dogs, none, person, cats, dog)])


def test_what_is_left_out_is_counted(folder):
  assert coco.open(folder).left_out == {
      'train2014, captions without a word': 1,
      'train2014, captions of images that the file does not list': 1,
      'train2014, images without a caption': 1,
      'train2014, objects of images that are not in the data set': 2,
      'train2014, objects of a category that the file does not name': 1,
      'train2014, labels: images without objects, which are kept': 1,
      'train2014, images of the 82,783 published that its list does not have': 82_779,
      'val2014, labels: images without objects, which are kept': 1,
      'val2014, images of the 40,504 published that its list does not have': 40_502}


@pytest.mark.parametrize('images, annotations', [('', 'annotations'), ('images', '.')])
def test_unpacked_folders_are_the_same(folder, tmp_path, images, annotations):
  other = coco.open(coco_files.unpacked(tmp_path / 'other', *coco_files.small_coco(), images,
                                        annotations))
  original = coco.open(folder)
  assert set(original.files) == {'annotations_trainval2014.zip'}
  assert set(other.files) == set(coco_files.small_coco()[0])
  for split in original.counts:
    for a, b in zip(examples(original, split), examples(other, split), strict=True):
      assert a.image() == b.image()
      assert (a.name, a.captions, a.labels, a.areas, a.more) == (
          b.name, b.captions, b.labels, b.areas, b.more)
  assert original.left_out == other.left_out


def test_another_process_gets_the_same(folder):
  original = coco.open(folder)
  examples(original, 'train')[0].image()            # has its zip open
  copy = pickle.loads(pickle.dumps(original))
  (raw,) = copy.examples('train', 2, 3)
  assert raw.captions == ('A person', 'nobody') and raw.image() == coco_files.jpeg(42)


def test_a_missing_image_is_bad_and_a_cut_one_is_bytes(folder):
  lists, parts = coco_files.small_coco()
  del parts['train2014'][coco_files.name_of(25)]
  parts['train2014'][coco_files.name_of(42)] = coco_files.jpeg(42)[:100]
  coco_files.as_zips(folder, lists, parts)
  whole, missing, cut = examples(coco.open(folder), 'train')
  assert whole.image() == coco_files.jpeg(9) and len(cut.image()) == 100
  with pytest.raises(BadImage, match='000025.jpg is not in .*train2014.zip'):
    missing.image()


@pytest.mark.parametrize('name, words', [
    ('train2014.zip', r'no train2014.zip.*cocodataset.org/#download.*zips/train2014.zip'),
    ('val2014.zip', r'no val2014.zip'),
    ('annotations_trainval2014.zip', r'captions_train2014.json.*annotations_trainval2014.zip')])
def test_a_missing_file_is_named_with_its_address(folder, name, words):
  (folder / name).unlink()
  with pytest.raises(UserError, match=words):
    coco.open(folder)


def test_a_folder_that_is_not_there(tmp_path):
  with pytest.raises(UserError, match='is not a folder'):
    coco.open(tmp_path / 'nothing')


@pytest.mark.parametrize('name', ['train2014.zip', 'annotations_trainval2014.zip'])
def test_a_download_that_was_cut_short(folder, name):
  path = folder / name
  path.write_bytes(path.read_bytes()[:-40])
  with pytest.raises(UserError, match=f'{name} is damaged or incomplete'):
    coco.open(folder)


@pytest.mark.parametrize('name, text, words', [
    ('captions_train2014.json', '{"images": [', 'is not JSON'),
    ('captions_train2014.json', '{"images": []}', "as COCO publishes it.*has no 'annotations'"),
    ('instances_val2014.json', '[]', 'not as COCO publishes it'),
    ('instances_val2014.json', coco_files.instances_file(
        coco_files.images([5, 7], 'val2014'), [], coco_files.CATEGORIES[:2]),
     'name different categories')])
def test_lists_of_another_shape(tmp_path, name, text, words):
  lists, parts = coco_files.small_coco()
  folder = coco_files.unpacked(tmp_path / 'coco', lists | {name: text}, parts)
  with pytest.raises(UserError, match=words):
    coco.open(folder)


def test_an_option_that_does_not_exist(folder):
  with pytest.raises(UserError, match='choose files or tfds'):
    coco.open(folder, through='web')


def changed(tmp_path, file, change):
  lists, parts = coco_files.small_coco()
  facts = json.loads(lists[file])
  change(facts)
  return coco.open(coco_files.unpacked(tmp_path / 'coco', lists | {file: json.dumps(facts)}, parts))


def test_annotations_that_lack_something_are_left_out_and_named(tmp_path):
  def lose(facts):
    facts['annotations'][0]['caption'] = None
    del facts['annotations'][1]['image_id']
    return [one['id'] for one in facts['annotations'][:2]]
  lists, _ = coco_files.small_coco()
  first, second = lose(json.loads(lists['captions_train2014.json']))
  left_out = changed(tmp_path, 'captions_train2014.json', lose).left_out
  assert left_out[f'train2014, caption annotations without caption (first id {first})'] == 1
  assert left_out[f'train2014, caption annotations without image_id (first id {second})'] == 1


def test_an_image_that_the_objects_lack_is_kept_without_labels(tmp_path):
  gone = []
  original = changed(tmp_path, 'instances_train2014.json',
                     lambda facts: gone.append(facts['images'].pop(0)['id']))
  assert [raw.labels for raw in examples(original, 'train')
          if raw.more['image_id'] == gone[0]] == [()]
  assert original.left_out['train2014, labels: images that instances_train2014.json does not list, '
                           f'which are kept without objects (first id {gone[0]})'] == 1


def test_objects_without_area_and_iscrowd_have_those_of_their_boxes(tmp_path):
  def lose(facts):
    for one in facts['annotations']:
      del one['area'], one['iscrowd']
  for raw in examples(changed(tmp_path, 'instances_train2014.json', lose), 'train'):
    width, height = raw.more['size']
    for label, area in zip(raw.labels, raw.areas):
      boxes = [box for box, one in zip(raw.more['boxes'], raw.more['box_labels']) if one == label]
      covered = sum(w * h for _, _, w, h in boxes) / (width * height)
      assert area == pytest.approx(min(max(covered, 1 / (width * height)), 1), rel=1e-4)
    assert not any(raw.more['crowd'])


@pytest.mark.parametrize('key, value', [
    ('bbox', [float('nan')] * 4), ('bbox', [0, 0, float('inf'), 1]), ('area', float('nan'))])
def test_objects_that_are_not_finite_are_left_out(tmp_path, key, value):
  def spoil(facts):
    facts['annotations'][0][key] = value
  original = changed(tmp_path, 'instances_train2014.json', spoil)
  assert original.left_out['train2014, objects whose box or area is not a finite number'] == 1
  for raw in examples(original, 'train'):
    assert np.isfinite([*raw.areas, *np.ravel(raw.more['boxes'])]).all()


def test_images_without_a_size_are_kept_without_objects(tmp_path):
  gone = []

  def spoil(facts):
    facts['images'][0]['width'] = 0
    gone.append(facts['images'][0]['id'])
  original = changed(tmp_path, 'instances_train2014.json', spoil)
  assert [raw.labels for raw in examples(original, 'train')
          if raw.more['image_id'] == gone[0]] == [()]
  assert original.left_out[f'train2014, images without width or height (first id {gone[0]})'] == 1


@pytest.mark.parametrize('part, key, value', [
    ('images', 'file_name', [[[]]]), ('images', 'file_name', 7), ('images', 'id', 'nine'),
    ('images', 'id', [1]), ('images', 'id', 10 ** 30), ('annotations', 'id', 'first'),
    ('annotations', 'id', {}), ('annotations', 'image_id', [9])])
def test_values_of_another_type_are_one_sentence(tmp_path, part, key, value):
  lists, parts = coco_files.small_coco()
  facts = json.loads(lists['captions_train2014.json'])
  for one in facts[part]:
    if one.get('image_id', one['id']) == 9:
      one[key] = value
  if key == 'id' and part == 'images':      # or nothing would refer to it
    for one in facts['annotations']:
      one['image_id'] = value if one['image_id'] == 9 else one['image_id']
  lists['captions_train2014.json'] = json.dumps(facts)
  with pytest.raises(UserError, match='captions_train2014.json'):
    coco.open(coco_files.unpacked(tmp_path, lists, parts))
