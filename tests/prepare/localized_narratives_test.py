"""Localized Narratives from miniature files as published; what is expected is worked by hand."""
import pickle

import coco_files
import narrative_files
import pytest

from xmc_jax.prepare import ln_coco, ln_openimages
from xmc_jax.prepare.original import BadImage
from xmc_jax.types import UserError


@pytest.fixture
def folder(tmp_path):
  return narrative_files.small_ln_coco(tmp_path / 'ln')


def examples(original, split='train'):
  return list(original.examples(split, 0, original.counts[split]))


def test_a_image_comes_once_with_all_its_narratives(folder):
  original = ln_coco.open(folder)
  assert original.name == 'ln_coco' and original.counts == {'train': 3, 'heldout': 1}
  dog, men, cow = examples(original)
  assert dog.name == '000000000009.jpg' and dog.image() == coco_files.jpeg(9)
  assert dog.captions == ('In this image there is a dog on the left side.', 'A dog.')
  assert dog.more == {'file_name': '000000000009.jpg', 'annotator_ids': [4, 5]}
  assert men.captions == ('Two men talk.',) and cow.captions == ('A cow. It eats',)
  assert [raw.flippable for raw in (dog, men, cow)] == [False, True, True]
  assert dog.labels == () and original.class_names == ()
  assert examples(original, 'heldout')[0].captions == ('A cat sits here.', 'One cat.')


def test_a_narrative_comes_with_its_image(folder):
  original = ln_coco.open(folder, each='narrative')
  assert original.counts == {'train': 4, 'heldout': 2}
  left, dog, men, cow = examples(original)
  assert left.captions == ('In this image there is a dog on the left side.',)
  assert dog.captions == ('A dog.',) and dog.more['annotator_ids'] == [5]
  assert left.image() == dog.image() == coco_files.jpeg(9)
  assert cow.image() == coco_files.jpeg(137576)
  assert len({raw.name for raw in (left, dog, men, cow)}) == 4
  assert not left.flippable and dog.flippable
  (last,) = original.examples('heldout', 1, 2)
  assert last.captions == ('One cat.',)


def test_what_is_left_out_is_counted(folder):
  assert ln_coco.open(folder, shortest=3).left_out == {
      'coco_train, narratives without a word': 1,
      'coco_train, narratives of fewer than 3 words': 2,
      'coco_train, narratives of the 134,272 published that the files do not have': 134_266,
      'coco_val, narratives of fewer than 3 words': 1,
      'coco_val, narratives of the 8,573 published that the files do not have': 8_571}
  assert ln_coco.open(folder).left_out[
      'coco_train, narratives that repeat one of the same image'] == 1


def test_full_files_in_parts_are_the_same(folder, tmp_path):
  original = ln_coco.open(folder)
  full = ln_coco.open(narrative_files.small_ln_coco(tmp_path / 'full', full=True))
  assert len(full.files) == 5 and len(original.files) == 2
  assert full.left_out == original.left_out
  for a, b in zip(examples(original), examples(full), strict=True):
    assert (a.name, a.captions, a.more, a.image()) == (b.name, b.captions, b.more, b.image())


def test_labels_are_those_of_the_annotations_where_they_are(folder):
  coco_files.zipped(folder / 'annotations_trainval2017.zip', {
      f'annotations/{name}': text for name, text in narrative_files.instances_2017().items()})
  original = ln_coco.open(folder)
  assert original.class_names == ('person', 'car', 'dog')
  assert 'annotations_trainval2017.zip' in original.files
  dog, men, cow = examples(original)
  assert (dog.labels, dog.areas, dog.more['boxes']) == ((2,), (12 / 1200,), [[1, 2, 3, 4]])
  assert men.labels == cow.labels == ()
  assert examples(original, 'heldout')[0].areas == (0.25,)
  each = examples(ln_coco.open(folder, each='narrative'))
  assert [raw.labels for raw in each] == [(2,), (2,), (), ()]


def test_annotations_of_one_half_are_not_enough(folder):
  (folder / 'instances_val2017.json').write_text(
      narrative_files.instances_2017()['instances_val2017.json'])
  with pytest.raises(UserError, match='or one is missing'):
    ln_coco.open(folder)


@pytest.mark.parametrize('line', ['{"image_id": "9", "caption', '{"image_id": "9"}', '[]',
                                  '{"image_id": "x9", "caption": "A"}',
                                  '{"image_id": "9", "caption": 4}'])
def test_a_wrong_line_is_named(folder, line):
  path = folder / 'coco_train_captions.jsonl'
  path.write_text(path.read_text() + '\n' + line + '\n')
  with pytest.raises(UserError, match=r'coco_train_captions.jsonl, line 8, is not a narrative'):
    ln_coco.open(folder)


def test_missing_files_are_named(tmp_path):
  folder = narrative_files.small_ln_coco(tmp_path / 'ln', full=True)
  (folder / 'coco_train_localized_narratives-00002-of-00004.jsonl').unlink()
  with pytest.raises(UserError, match='no coco_train_localized_narratives-00002-of-00004.jsonl'):
    ln_coco.open(folder)
  with pytest.raises(UserError, match='no open_images_train_v6_captions.jsonl.*google.github.io'):
    ln_openimages.open(folder)
  (folder / 'coco_train_captions.jsonl').write_text('')
  (folder / 'train2017.zip').unlink()
  with pytest.raises(UserError, match='no train2017.zip.*cocodataset.org'):
    ln_coco.open(folder)


@pytest.mark.parametrize('options, words', [
    ({'each': 'word'}, 'each=word: choose one of image, narrative'),
    ({'missing': 'x'}, 'bad, leave_out'), ({'shortest': -1}, 'shortest=-1')])
def test_wrong_options(folder, options, words):
  with pytest.raises(UserError, match=words):
    ln_coco.open(folder, **options)


def test_open_images_lie_in_several_folders(tmp_path):
  folder = narrative_files.small_ln_openimages(tmp_path / 'oi')
  original = pickle.loads(pickle.dumps(ln_openimages.open(folder)))
  assert original.counts == {'train': 4, 'heldout': 1} and original.class_names == ()
  first, following, missing, last = examples(original)
  assert [raw.captions for raw in (first, following, missing, last)] == [
      ('First.',), ('Next.',), ('Missing.',), ('Last.',)]
  assert first.image() == coco_files.jpeg(0) and last.image() == coco_files.jpeg(1)
  assert following.image() == coco_files.jpeg(2)
  with pytest.raises(BadImage, match='2c.jpg'):
    missing.image()
  assert examples(original, 'heldout')[0].image() == coco_files.jpeg(3)


def test_images_that_were_not_downloaded_may_be_left_out(tmp_path):
  folder = narrative_files.small_ln_openimages(tmp_path / 'oi')
  original = ln_openimages.open(folder, missing='leave_out')
  assert [raw.name for raw in examples(original)] == ['0a.jpg', '1b.jpg', 'f1.jpg']
  assert original.left_out['open_images_train, narratives of images that are not there'] == 1


def test_tars_are_to_be_unpacked(tmp_path):
  folder = narrative_files.small_ln_openimages(tmp_path / 'oi')
  (folder / 'images' / 'validation').rename(folder / 'elsewhere')
  with pytest.raises(UserError, match='no folder validation of images.*download the images'):
    ln_openimages.open(folder)
  (folder / 'validation.tar.gz').write_bytes(b'')
  with pytest.raises(UserError, match='unpack validation.tar.gz'):
    ln_openimages.open(folder)
